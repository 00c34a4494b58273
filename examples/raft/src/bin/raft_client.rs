//! A client: one operation.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use crore_raft::Client;
use crore_raft::machine::{Op, Output};
use lexopt::prelude::*;

const HELP: &str = "\
Usage: raft_client --node HOST:PORT... OPERATION

Operations: get KEY | put KEY VALUE | append KEY VALUE | delete KEY
            swap KEY OLD NEW (if it is OLD)";

fn parse() -> Result<Option<(Vec<String>, String, Op)>, lexopt::Error> {
    let mut args = lexopt::Parser::from_args(env::args_os().skip(1));
    let (mut nodes, mut words) = (Vec::new(), Vec::new());
    while let Some(arg) = args.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(None),
            Long("node") => nodes.push(args.value()?.string()?),
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    if nodes.is_empty() {
        return Err("--node is needed".into());
    }
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let (key, op) = match words[..] {
        ["get", key] => (key, Op::Get),
        ["put", key, value] => (key, Op::Put(value.into())),
        ["append", key, value] => (key, Op::Append(value.into())),
        ["delete", key] => (key, Op::Delete),
        ["swap", key, old, new] => {
            let expect = Some(old.into());
            let new = new.into();
            (key, Op::Swap { expect, new })
        }
        _ => return Err("what is to be done is missing, or unknown".into()),
    };
    Ok(Some((nodes, key.into(), op)))
}

fn main() -> ExitCode {
    let (nodes, key, op) = match parse() {
        Ok(Some(parsed)) => parsed,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("error: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let mut client = Client::new(nodes, Duration::from_secs(3), Duration::from_secs(30));
    match client.run(&key, op) {
        Ok(Output::Value(Some(value))) => println!("{value}"),
        Ok(Output::Done | Output::Swapped(true)) => {}
        Ok(Output::Value(None)) => {
            eprintln!("{key} is not there");
            return ExitCode::FAILURE;
        }
        Ok(Output::Swapped(false)) => {
            eprintln!("{key} is another");
            return ExitCode::FAILURE;
        }
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
