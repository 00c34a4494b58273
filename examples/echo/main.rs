//! An echo server of plain `std::net` code on one kernel thread, put under
//! load by a second process: `cargo run --release --example echo`.
//!
//! - `server` is the point of it: what crore makes of blocking code;
//! - `drive` is the load: mio, no crore, usable by benches;
//! - `options`, `progress`, `bar`, `report`, `digits` talk to people, `json` to programs.

mod bar;
mod digits;
mod drive;
mod json;
mod options;
mod progress;
mod report;
mod server;

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, ExitCode};
use std::{env, io, thread};

use options::{HELP, Mode, Options};
use server::Service;

/// Open files that are not connections: stdio, epoll, the runtime's own.
const OTHER_FILES: u64 = 64;

fn main() -> ExitCode {
    let options = match Options::parse(env::args_os().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: {why}\n\nTry --help.");
            return ExitCode::from(2);
        }
    };
    let done = match options.mode {
        Mode::Help => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Mode::Drive(addr) => drive(addr, &options),
        Mode::Serve(addr) => serve(addr, options.service, None),
        Mode::Both => {
            let free = SocketAddr::from(([127, 0, 0, 1], 0));
            serve(free, options.service, Some(&options))
        }
    };
    done.unwrap_or_else(|e| {
        eprintln!("error: {e}");
        ExitCode::FAILURE
    })
}

/// Serves on this thread; where `load` is given, starts a second process that
/// drives, and ends as that one ends.
fn serve(addr: SocketAddr, service: Service, load: Option<&Options>) -> io::Result<ExitCode> {
    let room = raise_open_files()?;
    let listener = TcpListener::bind(addr)
        .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {addr}: {e}")))?;
    let addr = listener.local_addr()?;
    println!(
        "serving on {addr}, process {}, room for {room} connections",
        std::process::id()
    );
    if let Some(options) = load {
        let mut driver = driver(addr, options)?.spawn()?;
        thread::spawn(move || {
            let status = driver.wait();
            std::process::exit(status.ok().and_then(|s| s.code()).unwrap_or(1));
        });
    }
    server::serve(&listener, service)?;
    Ok(ExitCode::SUCCESS)
}

/// This program again, to drive the server in this process.
fn driver(server: SocketAddr, options: &Options) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command
        .args(["--drive", &server.to_string()])
        .args(["--server-pid", &std::process::id().to_string()])
        .args(["--connections", &options.connections.to_string()])
        .args(["--seconds", &options.load.as_secs().to_string()])
        .args(["--size", &options.size.to_string()])
        .args(options.json.then_some("--json"));
    Ok(command)
}

fn drive(server: SocketAddr, options: &Options) -> io::Result<ExitCode> {
    let room = raise_open_files()?;
    let connections = usize::try_from(room)
        .unwrap_or(usize::MAX)
        .min(options.connections);
    if connections < options.connections {
        println!(
            "connections clamped from {} to {connections}: a process may open {} files here, by the \
             hard limit (`ulimit -Hn`)",
            options.connections,
            room + OTHER_FILES
        );
    }
    let config = drive::Config {
        server,
        connections,
        load: options.load,
        size: options.size,
        server_pid: options.server_pid,
        spins: false,
    };
    let mut display = progress::Display::new(&config);
    let report = drive::drive(&config, &mut |progress| display.show(progress))?;
    drop(display);
    let summary = report::Summary {
        config: &config,
        report: &report,
        asked: options.connections,
        load_average: report::load_average(),
        processors: thread::available_parallelism()?.get(),
    };
    println!("{summary}");
    if options.json {
        println!("{}", summary.json());
    }
    Ok(if summary.errors() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Raises the soft limit on open files to the hard one; returns how many
/// connections there is room for.
fn raise_open_files() -> io::Result<u64> {
    let limit = rlimit::increase_nofile_limit(u64::MAX)?;
    let room = limit.saturating_sub(OTHER_FILES);
    if room == 0 {
        return Err(io::Error::other(format!(
            "only {limit} files may be open; raise `ulimit -Hn`"
        )));
    }
    Ok(room)
}
