//! The command `crore`: runs a program with its threads as coroutines, and looks into
//! one that runs.

mod args;
mod check;
mod library;
mod simulate;

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use args::{Action, Run, Top};
use library::Library;

/// As `env` and `nohup` end where they can't do what was asked.
const REFUSED: u8 = 125;

fn main() -> ExitCode {
    let action = match args::parse(std::env::args_os().skip(1)) {
        Ok(action) => action,
        Err(why) => return refuse(&format!("{why}\n{}", args::USAGE)),
    };
    match action {
        Action::Help => {
            println!("{}", args::USAGE);
            ExitCode::SUCCESS
        }
        Action::Version => {
            println!("crore {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Action::Check(program) => match check::program(&program) {
            Ok(_) => {
                println!("{}: can be run", program.display());
                ExitCode::SUCCESS
            }
            Err(why) => refuse(&why),
        },
        Action::Ask(process, question) => match crore_inspect::ask(process, question) {
            Ok(text) => {
                // As `less` does: who reads no further has what it wants.
                let _ = io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err(why) => refuse(&format!("process {process}: {why}")),
        },
        Action::Top(top) => match show(&top) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => refuse(&format!("process {}: {why}", top.process)),
        },
        Action::Run(run) => refuse(&start(&run)),
        Action::Simulate(run, options) => simulate::run(&run, &options),
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("crore: {why}");
    ExitCode::from(REFUSED)
}

fn show(top: &Top) -> io::Result<()> {
    if !top.once {
        return crore_top::run(top.process, top.every);
    }
    let text = crore_top::once(top.process, top.every)?;
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Becomes the program; returns why not.
fn start(run: &Run) -> String {
    match command(run, Library::Plain) {
        Ok(mut command) => format!("{}: {}", run.program.display(), command.exec()),
        Err(why) => why,
    }
}

/// The program with a library of ours.
///
/// # Errors
///
/// Why it can't be run so.
fn command(run: &Run, which: Library) -> Result<Command, String> {
    let library = check::program(&run.program).and_then(|_| library::find(which))?;
    let mut preload = library.into_os_string();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    let mut command = Command::new(&run.program);
    command
        .args(&run.args)
        .env("LD_PRELOAD", preload)
        .envs(run.settings())
        .env("CRORE_RUN", "1");
    Ok(command)
}
