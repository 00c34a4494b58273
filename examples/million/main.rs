//! A million live TCP connections, served by plain `std::net` code:
//! `cargo run --release --example million`.
//!
//! Where a process may open files enough, one server process holds all; else as
//! many as it takes, each on one kernel thread.
//!
//! - `server` (of the example echo) is the point of it;
//! - `client` is a process with the other ends, plain blocking code;
//! - `preflight` looks whether the machine is set up for it, `kernel` reads
//!   `/proc`, `crew` starts the processes, `measure` tells them what to do;
//! - `options`, `progress`, `report`, `bar`, `digits` talk to people, `json` to programs.

#[path = "../echo/bar.rs"]
mod bar;
mod client;
mod crew;
#[path = "../echo/digits.rs"]
mod digits;
#[path = "../echo/json.rs"]
mod json;
mod kernel;
mod measure;
mod options;
#[path = "../echo/drive/pattern.rs"]
mod pattern;
mod preflight;
mod progress;
mod report;
#[path = "../echo/server.rs"]
mod server;

use std::net::TcpListener;
use std::process::ExitCode;
use std::{env, io};

use options::{HELP, Mode, Options};
use preflight::Machine;
use server::Service;

fn main() -> ExitCode {
    let mode = match Mode::parse(env::args_os().skip(1)) {
        Ok(mode) => mode,
        Err(why) => {
            eprintln!("error: {why}\n\nTry --help.");
            return ExitCode::from(2);
        }
    };
    let done = match mode {
        Mode::Help => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Mode::Serve(parent, service) => {
            crew::end_with(parent);
            serve(service).map(|()| ExitCode::SUCCESS)
        }
        Mode::Drive(parent, sources) => {
            crew::end_with(parent);
            client::run(sources).map(|()| ExitCode::SUCCESS)
        }
        Mode::All(options) => all(&options),
    };
    done.unwrap_or_else(|e| {
        eprintln!("error: {e}");
        ExitCode::FAILURE
    })
}

/// Serves on a free port, which it prints, for ever.
fn serve(service: Service) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    server::serve(&listener, service)
}

fn all(options: &Options) -> io::Result<ExitCode> {
    let machine = Machine::look(options.connections)?;
    let checks = machine.checks(options);
    println!(
        "preflight for {} connections",
        digits::grouped(options.connections as u64)
    );
    checks.iter().for_each(preflight::Check::print);
    let plan = machine.plan(options, &checks).map_err(io::Error::other)?;
    if plan.connections < options.connections {
        println!(
            "going on with {} connections: what is SHORT above, or leaves 3 GiB of memory too \
             little, has room for no more",
            digits::grouped(plan.connections as u64)
        );
    }
    if plan.servers > 1 {
        println!(
            "{} server processes of one worker each, since {}",
            plan.servers,
            match options.servers {
                Some(_) => "so many were asked for",
                None => "one process may not open so many files",
            }
        );
    }
    println!();
    let report = measure::measure(&plan, options)?;
    let summary = report::Summary {
        plan: &plan,
        report: &report,
        asked: options.connections,
        service: options.service,
    };
    println!("{summary}");
    if options.json {
        println!("{}", summary.json());
    }
    Ok(if summary.is_verified() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
