//! Echo servers of one thread each, side by side, under the same load:
//!
//! ```text
//! cargo run --release -p crore-benches --bin echo_compare -- \
//!     [--connections 100,1000,10000] [--rounds 5] [--seconds 2] [--size 64]
//!     [--servers epoll,crore,shared,tokio] [--paired] [--syscalls]
//! ```
//!
//! Every round runs every server in a process of its own, in turn, so that
//! what else the machine does hits all of them alike. The yardstick is a
//! minimal edge-triggered epoll loop (`epoll.rs`): the processor time that a
//! request costs the server is compared round by round and given as a ratio,
//! less than 1 for a server that is cheaper. Processor time rather than
//! requests a second comes first, because it does not depend on how busy the
//! driver's processor is. `--syscalls` counts system calls with strace, in an
//! extra round. `--paired` compares processor time only, on a machine that is
//! too busy for anything else: see `paired.rs`. Any error of the driver makes the command fail.
//!
//! - `servers`, `epoll` what is measured · `drive` the load, from the example
//! - `measure` one run of one server · `paired` all at once, the load in turn
//! - `report` the tables

#[path = "../../../../examples/echo/drive/mod.rs"]
#[expect(dead_code, reason = "the example uses all of it, we don't")]
mod drive;
mod epoll;
mod measure;
mod options;
mod paired;
mod report;
mod servers;

use std::process::ExitCode;
use std::{env, io};

use options::{HELP, Mode, Options};
use report::Samples;

fn main() -> ExitCode {
    let options = match Options::parse(env::args_os().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let done = match options.mode {
        Mode::Serve(server) => servers::serve(server),
        Mode::Compare => compare(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> io::Result<()> {
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    for &connections in &options.connections {
        let at_once = if options.paired {
            options.servers.len()
        } else {
            1
        };
        if (at_once * connections) as u64 + 64 > files {
            return Err(io::Error::other(format!(
                "{connections} connections to {at_once} servers need more open files than the \
                 {files} that this process may have; raise `ulimit -Hn`"
            )));
        }
        if options.paired {
            let rounds = paired::run(connections, options)?;
            println!("{}", report::pairs(connections, options, &rounds));
            continue;
        }
        let mut samples = Samples::new(&options.servers);
        for round in 0..options.rounds {
            for turn in 0..options.servers.len() {
                // Each server is first in some round.
                let at = (turn + round) % options.servers.len();
                let sample = measure::run(options.servers[at], connections, options)?;
                samples.add(at, sample);
            }
        }
        println!("{}", report::table(connections, options, &samples));
        if options.syscalls {
            for &server in &options.servers {
                let calls = measure::syscalls(server, connections, options)?;
                println!("{:>8}: {}", server.name(), report::calls(&calls));
            }
            println!();
        }
    }
    Ok(())
}
