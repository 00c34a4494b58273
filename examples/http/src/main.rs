//! The command; `crore-http --help` says how.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crore::CancelToken;
use crore::signal::{self, SIGINT, SIGTERM};
use crore_http::pool::{Pool, create_world};
use crore_http::server::Server;
use lexopt::prelude::*;

const HELP: &str = "\
HTTP/1.1 of plain std::net code on coroutines: /plaintext, /json, and with a
PostgreSQL /db and /queries?n=20. SIGTERM ends it when its requests are answered.

Usage: crore-http [OPTIONS]

  --listen ADDR      where to listen [127.0.0.1:8080]
  --workers N        threads [1]
  --connections N    connections at one time [10000]
  --idle SECONDS     how long a connection may wait for a request [60]
  --request SECONDS  how long a request may take to come [10]
  --grace SECONDS    how long requests may go on after SIGTERM [10]
  --database URL     as in 'host=localhost user=postgres'
  --patience SECONDS how long a request waits for the database [5]
  --pool N           connections to the database [16]
  --create           only make the table `world`, where it is not there
  --help             print this
";

struct Options {
    listen: SocketAddr,
    server: Server,
    database: Option<postgres::Config>,
    pool: usize,
    create: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("error: {why}\n\nTry --help.");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut server = options.server;
    // As many as it may have; what is short is said when it is.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    if let Some(config) = options.database {
        if options.create {
            return Ok(create_world(&mut config.connect(postgres::NoTls)?)?);
        }
        server.pool = Some(Pool::new(config, options.pool, server.patience));
    }
    let end = CancelToken::new();
    let asked = end.clone();
    // A thread: it also waits while the runtime starts and ends.
    thread::spawn(move || -> io::Result<()> {
        let signal = signal::wait(&[SIGINT, SIGTERM])?;
        eprintln!("signal {signal}: ending");
        asked.cancel();
        Ok(())
    });
    server.run(options.listen, &end, |addr| println!("listening on {addr}"))?;
    Ok(())
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Options>, lexopt::Error> {
    let mut args = lexopt::Parser::from_args(args);
    let mut options = Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        server: Server::default(),
        database: None,
        pool: 16,
        create: false,
    };
    let server = &mut options.server;
    while let Some(arg) = args.next()? {
        match arg {
            Long("listen") => options.listen = args.value()?.parse()?,
            Long("workers") => server.workers = at_least_1(&mut args)?,
            Long("connections") => server.connections = at_least_1(&mut args)?,
            Long("idle") => server.limits.idle = seconds(&mut args)?,
            Long("request") => server.limits.request = seconds(&mut args)?,
            Long("grace") => server.grace = seconds(&mut args)?,
            Long("database") => options.database = Some(args.value()?.parse()?),
            Long("patience") => server.patience = seconds(&mut args)?,
            Long("pool") => options.pool = at_least_1(&mut args)?,
            Long("create") => options.create = true,
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    if options.create && options.database.is_none() {
        return Err("--create wants a --database".into());
    }
    Ok(Some(options))
}

fn at_least_1(args: &mut lexopt::Parser) -> Result<usize, lexopt::Error> {
    match args.value()?.parse()? {
        0 => Err("numbers are at least 1".into()),
        number => Ok(number),
    }
}

fn seconds(args: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    Ok(Duration::from_secs(at_least_1(args)? as u64))
}
