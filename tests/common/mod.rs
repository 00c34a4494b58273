//! What several promises need to be tested: a child process to die in the
//! test's place.

use std::process::{Command, Output};
use std::{env, process};

const CHILD: &str = "CRORE_TEST_CHILD";

/// Runs `body` in a child process: the test binary once more, with only the
/// test `name`, which comes here again.
pub(crate) fn in_child(name: &str, body: impl FnOnce()) -> Output {
    if env::var(CHILD).as_deref() == Ok(name) {
        body();
        process::exit(0);
    }
    Command::new(env::current_exe().expect("a test binary"))
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(CHILD, name)
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("the test binary starts")
}

/// What the child wrote to standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
