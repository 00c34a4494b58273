//! `crore sim`: a program in a simulation, by one seed or by many.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use crate::args::{Run, SimOptions};
use crate::library::Library;
use crate::refuse;

/// By one seed it becomes the program.
pub(crate) fn run(run: &Run, options: &SimOptions) -> ExitCode {
    fix_addresses();
    let mut command = match crate::command(run, Library::Simulates) {
        Ok(command) => command,
        Err(why) => return refuse(&why),
    };
    if options.seeds.clone().count() > 1 {
        return by_seeds(command.stdin(Stdio::null()), options);
    }
    if let Some(path) = &options.trace {
        command.env("CRORE_SIM_TRACE_FILE", path);
    }
    command.env("CRORE_SIM", options.seeds.start.to_string());
    refuse(&format!("{}: {}", run.program.display(), command.exec()))
}

/// The program has the same addresses in each run, where the kernel lets it.
fn fix_addresses() {
    const UNCHANGED: libc::c_ulong = 0xffff_ffff;
    // SAFETY: no pointers.
    unsafe {
        let now = libc::personality(UNCHANGED);
        if now >= 0 {
            libc::personality((now | libc::ADDR_NO_RANDOMIZE) as libc::c_ulong);
        }
    }
}

/// One after the other. What a run says that fails is said again.
fn by_seeds(command: &mut Command, options: &SimOptions) -> ExitCode {
    let mut failed = Vec::new();
    let count = options.seeds.clone().count();
    for seed in options.seeds.clone() {
        let output = match command.env("CRORE_SIM", seed.to_string()).output() {
            Ok(output) => output,
            Err(why) => return refuse(&why.to_string()),
        };
        if !output.status.success() {
            let _ = io::stdout().write_all(&output.stdout);
            let _ = io::stderr().write_all(&output.stderr);
            eprintln!("crore: seed {seed}: {}", output.status);
            failed.push(seed.to_string());
        }
    }
    if failed.is_empty() {
        eprintln!("crore: {count} seeds, none fails");
        return ExitCode::SUCCESS;
    }
    eprintln!("crore: of {count} seeds these fail: {}", failed.join(", "));
    ExitCode::FAILURE
}
