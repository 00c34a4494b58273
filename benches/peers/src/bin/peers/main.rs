//! crore beside its peers, side by side, each in a process of its own:
//!
//! ```text
//! scripts/peers.sh [work,echo,pipelined,calls,plots,tables,paired,threads,push] [OPTIONS]
//! ```
//!
//! Every round runs every contender in turn, so that what else the machine does
//! hits all of them alike; and in each round another one is first. Each figure
//! is compared round by round with that of the same round's yardstick: crore for
//! the work of a runtime, a minimal edge-triggered epoll loop for echo servers.
//! Processor time rather than requests a second says what a request costs,
//! because it does not depend on how busy the driver's processor is.
//!
//! - `contests` who does what · `options` the command line
//! - `subjects` the programs that are measured, and how they are started
//! - `work` switches, spawns, messages, timers, memory
//! - `measure` one run of one echo server · `drive` its load, from the example
//! - `pipelined` servers whose clients do not wait for an answer
//! - `paired` all servers at once, the load in turn, for a busy machine
//! - `results` what is written and read · `report` what is printed
//! - `tables` the same in Markdown · `plot` the plots

mod contests;
#[path = "../../../../../examples/echo/drive/mod.rs"]
#[expect(dead_code, reason = "the example uses all of it, we don't")]
mod drive;
mod measure;
mod options;
mod paired;
mod pipelined;
mod plot;
mod report;
mod results;
mod subjects;
mod tables;
mod work;

use std::process::ExitCode;
use std::{env, fs, io};

use options::{HELP, Options, Part};
use results::{PushRow, Results, ThreadFigures};
use subjects::GUESTS;

fn main() -> ExitCode {
    let options = match Options::parse(env::args_os().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the parts; what an earlier run wrote of the others is kept.
fn run(options: &Options) -> io::Result<()> {
    let has = |part| options.parts.contains(&part);
    fs::create_dir_all(&options.out)?;
    let path = options.out.join("results.json");
    let mut results = Results::read(&path)?;
    if options.parts.iter().any(|part| part.measures()) {
        for (guest, _) in GUESTS {
            if !options.guests.contains_key(guest) {
                eprintln!("no {guest} here: left out");
            }
        }
    }
    if has(Part::Work) {
        work::run(options, |contest| {
            println!("{}", report::contest(&contest));
            results.put_contest(contest);
            results.write(&path)
        })?;
    }
    if has(Part::Echo) {
        measure::echoes(options, |echo| {
            println!("{}", report::echo(&echo));
            results.put_echo(echo);
            results.write(&path)
        })?;
    }
    if has(Part::Pipelined) {
        pipelined::run(options, |pipelined| {
            println!("{}", report::pipelined(&pipelined));
            results.put_pipelined(pipelined);
            results.write(&path)
        })?;
    }
    if has(Part::Paired) {
        for &connections in &options.connections {
            let rounds = paired::run(connections, options)?;
            println!("{}", report::pairs(connections, options, &rounds));
        }
    }
    if has(Part::Calls) {
        results.calls = measure::calls(options)?;
        println!("{}", report::calls(&results.calls));
        results.write(&path)?;
    }
    if has(Part::Tables) {
        print!("{}", tables::all(&results));
    }
    if has(Part::Plots) {
        plot::all(&results, &options.plots)?;
    }
    if has(Part::Threads) {
        let path = options.out.with_file_name("run_figures.json");
        plot::threads(&ThreadFigures::read(&path)?, &options.plots)?;
    }
    if has(Part::Push) {
        let path = options.out.with_file_name("push.jsonl");
        plot::push(&PushRow::read_all(&path)?, &options.plots)?;
    }
    Ok(())
}
