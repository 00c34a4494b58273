//! The push service's command.

use std::process::ExitCode;
use std::sync::Arc;
use std::{env, fs};

use crore_push::config::Config;
use crore_push::node;
use crore_push::service::Service;
use lexopt::prelude::*;

/// What the command line asks for.
#[derive(Default)]
struct Arguments {
    file: Option<String>,
    /// They win over the file's.
    settings: Vec<(String, String)>,
    help: bool,
}

impl Arguments {
    fn parse() -> Result<Self, lexopt::Error> {
        let mut args = lexopt::Parser::from_args(env::args_os().skip(1));
        let mut all = Self::default();
        while let Some(arg) = args.next()? {
            match arg {
                Long("help") | Short('h') => all.help = true,
                Long("config") => all.file = Some(args.value()?.string()?),
                Long(name) => {
                    let name = name.to_owned();
                    all.settings.push((name, args.value()?.string()?));
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(all)
    }

    /// The settings as they are now.
    fn config(&self) -> Result<Config, String> {
        let mut config = Config::default();
        if let Some(file) = &self.file {
            let text = fs::read_to_string(file).map_err(|why| format!("{file}: {why}"))?;
            config.read(&text).map_err(|why| format!("{file}: {why}"))?;
        }
        for (name, value) in &self.settings {
            config.set(name, value)?;
        }
        config.check()?;
        Ok(config)
    }
}

fn main() -> ExitCode {
    let begun = Arguments::parse().map_err(|why| why.to_string());
    let begun = begun.and_then(|arguments| {
        if arguments.help {
            return Ok(None);
        }
        let service = Service::new(arguments.config()?)?;
        Ok(Some((arguments, Arc::new(service))))
    });
    let (arguments, service) = match begun {
        Ok(Some(begun)) => begun,
        Ok(None) => {
            println!("Usage: push [--config FILE] [--SETTING VALUE]...\n");
            println!("Settings, also as lines `SETTING = VALUE` of the file:\n");
            print!("{}", Config::help());
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("error: {why}\n\nTry --help.");
            return ExitCode::from(2);
        }
    };
    match node::run(&service, || arguments.config()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}
