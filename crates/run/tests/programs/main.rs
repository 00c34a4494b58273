//! The promise: a program says and does under `crore run` what it does by itself.

mod c_programs;
mod command;
mod inside;
mod mariadb;
mod servers;
#[cfg(target_arch = "x86_64")]
mod simulation;
mod tools;
mod top;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The command under test.
const CRORE: &str = env!("CARGO_BIN_EXE_crore");

/// A folder of a test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("crore-run-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program by itself, or under crore with so many workers. Not for ever.
fn command(workers: Option<usize>, program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120"]).stdin(Stdio::null());
    if let Some(workers) = workers {
        let workers = workers.to_string();
        command.args([CRORE, "run", "--workers", &workers, "--"]);
        // It is there, and says nothing of those that compute.
        command.env("CRORE_WATCHDOG", "60000");
    }
    command.arg(program);
    command
}

/// What a program said, and how it ended.
fn said(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

/// Runs a program by itself and under crore, with one worker and with two: all must be
/// the same.
fn same(program: impl AsRef<Path>, args: &[&str]) -> String {
    let program = program.as_ref();
    let plain = said(command(None, program).args(args));
    for workers in [1, 2] {
        let ours = said(command(Some(workers), program).args(args));
        assert_eq!(
            ours, plain,
            "left: {program:?} {args:?} under crore, {workers} workers"
        );
    }
    plain.1
}
