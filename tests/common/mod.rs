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
    let binary = env::current_exe().expect("a test binary");
    let runner = env::var(RUNNER).unwrap_or_default();
    let mut words = runner.split_whitespace();
    let mut command = match words.next() {
        Some(program) => Command::new(program),
        None => Command::new(&binary),
    };
    if !runner.is_empty() {
        command.args(words).arg(binary);
    }
    let output = command
        .args(["--exact", name, "--nocapture", "--include-ignored"])
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

/// What the child wrote to standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
