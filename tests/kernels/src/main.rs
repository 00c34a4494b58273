//! `older_kernel VERSION PROGRAM ARGS...`: the program, without the system calls and flags
//! that Linux got after that version. `scripts/kernels.sh` runs the tests so.
//!
//! What a filter cannot show is another behaviour of a call that was there already, and
//! what the kernel tells without a call (the auxiliary vector).

mod later;
#[path = "../../faults/refusals/seccomp.rs"]
#[allow(dead_code, reason = "the tests of refusals use more of it")]
mod seccomp;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: older_kernel VERSION PROGRAM [ARGS...], VERSION as 5.4";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let version = arguments
        .next()
        .and_then(|word| later::version(word.to_str()?));
    let (Some(version), Some(program)) = (version, arguments.next()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    seccomp::refuse(&later::than(version));
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("cannot execute {}: {error}", program.display());
    ExitCode::from(127)
}
