//! What several promises need to be tested: a child process to die in the
//! test's place.

use std::process::{Command, Output};
use std::{env, process};

const CHILD: &str = "CRORE_TEST_CHILD";

/// The program and arguments, divided by spaces, that run the test binary
/// where the kernel can't: an emulator's.
const RUNNER: &str = "CRORE_TEST_RUNNER";

/// Runs `body` in a child process: the test binary once more, with only the
/// test `name`, which comes here again.
pub(crate) fn in_child(name: &str, body: impl FnOnce()) -> Output {
    if env::var(CHILD).as_deref() == Ok(name) {
        body();
        process::exit(0);
    }
    let output = test_binary()
        .args([
            "--exact",
            &whole_name(name),
            "--nocapture",
            "--include-ignored",
        ])
        .env(CHILD, name)
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("the test binary starts");
    // A child in which nothing happened ends well.
    let ran = output
        .stdout
        .windows(15)
        .all(|said| said != b"running 0 tests");
    assert!(ran, "there is no test {name}");
    output
}

/// The test binary once more, by way of the emulator if there is one.
fn test_binary() -> Command {
    let binary = env::current_exe().expect("a test binary");
    let runner = env::var(RUNNER).unwrap_or_default();
    let mut words = runner.split_whitespace();
    let Some(program) = words.next() else {
        return Command::new(binary);
    };
    let mut command = Command::new(program);
    command.args(words).arg(binary);
    command
}

/// The test `name` as the test binary knows it: with the modules it is in.
pub(crate) fn whole_name(name: &str) -> String {
    let listed = test_binary()
        .args(["--list", "--format=terse", name])
        .output()
        .expect("the test binary starts");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let found: Vec<_> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|whole| *whole == name || whole.ends_with(&format!("::{name}")))
        .collect();
    assert_eq!(found.len(), 1, "tests named {name}: {found:?}");
    found[0].to_owned()
}

/// What the child wrote to standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
