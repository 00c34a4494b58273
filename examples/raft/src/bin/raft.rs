//! One node of the cluster.

use std::process::ExitCode;
use std::sync::Arc;
use std::{env, path::PathBuf};

use crore_raft::config::{Config, Member};
use crore_raft::observer::Nobody;
use lexopt::prelude::*;

const HELP: &str = "\
Usage: raft --name NAME --dir DIR --member NAME=HOST:PORT...

The members are all nodes, this one among them, in the same order on each.";

fn parse() -> Result<Option<Config>, lexopt::Error> {
    let mut args = lexopt::Parser::from_args(env::args_os().skip(1));
    let (mut name, mut dir, mut members) = (None, None, Vec::new());
    while let Some(arg) = args.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(None),
            Long("name") => name = Some(args.value()?.string()?),
            Long("dir") => dir = Some(PathBuf::from(args.value()?)),
            Long("member") => {
                let member = args.value()?.string()?;
                let (name, address) = member.split_once('=').ok_or("--member NAME=HOST:PORT")?;
                members.push(Member {
                    name: name.into(),
                    address: address.into(),
                });
            }
            other => return Err(other.unexpected()),
        }
    }
    let (Some(name), Some(dir)) = (name, dir) else {
        return Err("--name and --dir are needed".into());
    };
    let me = members.iter().position(|member| member.name == name);
    let me = me.ok_or_else(|| format!("{name} is not among the members"))?;
    Ok(Some(Config::new(me, members, dir)))
}

fn main() -> ExitCode {
    let config = match parse() {
        Ok(Some(config)) => config,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("error: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let ended = crore::run(|| crore_raft::run(config, Arc::new(Nobody)));
    if let Err(why) = ended.and_then(|ended| ended) {
        eprintln!("error: {why}");
    }
    ExitCode::FAILURE
}
