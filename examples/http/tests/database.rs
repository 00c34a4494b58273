//! With a PostgreSQL of the test's own; and the command, which a signal ends.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use crore_clients::postgres_server;
use crore_http::pool::{Pool, create_world};
use crore_http::server::Server;
use postgres::{Client, Config, NoTls};

#[allow(dead_code, reason = "each test takes a part of it")]
mod common;

use common::{get, start};

/// Beyond what any of the tests' servers takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(server: SocketAddr) -> Config {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(server.port())
        .user("postgres");
    config
}

fn with_world(server: SocketAddr) -> Client {
    let mut client = config(server).connect(NoTls).expect("it takes connections");
    create_world(&mut client).expect("the table");
    client
}

fn with_pool(server: SocketAddr, size: usize, workers: usize) -> Server {
    Server {
        workers,
        pool: Some(Pool::new(config(server), size, PATIENCE)),
        ..Server::default()
    }
}

/// Fails unless the text is a row of the table; its id.
fn row(text: &str) -> i32 {
    let inner = text.strip_prefix(r#"{"id":"#).unwrap();
    let (id, number) = inner.split_once(r#","randomNumber":"#).unwrap();
    let (id, number) = (id.parse::<i32>().unwrap(), number.trim_end_matches('}'));
    assert!((1..=10_000).contains(&id), "{text}");
    // As `create_world` has filled it.
    assert_eq!(number, (1 + id * 7919 % 10_000).to_string(), "{text}");
    id
}

#[test]
fn rows_come_from_the_database() {
    let postgres = postgres_server(30);
    let mut client = with_world(postgres.address());
    // Once more changes nothing.
    create_world(&mut client).unwrap();
    for workers in [1, 2] {
        let server = start(with_pool(postgres.address(), 4, workers));
        // Many more than there are connections to the database.
        let mut all: Vec<_> = (0..50).map(|_| server.connect()).collect();
        for (i, client) in all.iter_mut().enumerate() {
            client.send(get("/db") + &get(&format!("/queries?n={i}")) + &get("/json"));
        }
        let mut ids = Vec::new();
        for (i, client) in all.iter_mut().enumerate() {
            let answer = client.answer();
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(answer.has("Content-Type: application/json"));
            ids.push(row(&answer.body));
            let answer = client.answer();
            let rows = answer
                .body
                .strip_prefix('[')
                .unwrap()
                .strip_suffix(']')
                .unwrap();
            let rows: Vec<_> = rows.split("},").map(row).collect();
            assert_eq!(rows.len(), i.max(1));
            assert_eq!(client.answer().body, r#"{"message":"Hello, World!"}"#);
        }
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() > 10, "not at random: {ids:?}");
    }
}

#[test]
fn a_broken_connection_is_replaced() {
    let postgres = postgres_server(30);
    let mut control = with_world(postgres.address());
    let server = start(with_pool(postgres.address(), 1, 1));
    let mut client = server.connect();
    for _ in 0..3 {
        row(&client.get("/db").body);
        let others = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity \
                      WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        assert!(control.query_one(others, &[]).unwrap().get::<_, bool>(0));
        let answer = client.get("/db");
        assert_eq!(answer.status, 503, "{answer:?}");
        let why = answer.body.strip_prefix("503 Service Unavailable: ");
        assert!(why.is_some_and(|why| why.trim().len() > 5), "{answer:?}");
    }
    row(&client.get("/db").body);
}

#[test]
fn no_database_is_said() {
    // Taken, so that nobody else can listen there.
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    taken
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let addr = taken.local_addr().unwrap().as_socket().unwrap();
    let server = start(with_pool(addr, 1, 1));
    let mut client = server.connect();
    for _ in 0..2 {
        let answer = client.get("/db");
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(
            answer
                .body
                .contains("503 Service Unavailable: error connecting"),
            "{answer:?}"
        );
    }
    assert_eq!(client.get("/json").status, 200);
}

/// The command; killed if the test ends before it does.
struct Service {
    child: Child,
    addr: SocketAddr,
    out: BufReader<ChildStdout>,
    err: ChildStderr,
}

impl Service {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crore-http"));
        command.args(["--listen", "127.0.0.1:0"]).args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let err = child.stderr.take().unwrap();
        let mut service = Self {
            child,
            addr: SocketAddr::from(([0; 4], 0)),
            out: BufReader::new(out),
            err,
        };
        let mut line = String::new();
        service.out.read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on ");
        service.addr = addr.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        service
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end, which must be a good one; what it has said.
    fn ended(mut self) -> String {
        let mut said = String::new();
        self.err.read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many wait for a lock of the table.
fn waiting(control: &mut Client) -> i64 {
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    control.query_one(waiting, &[]).unwrap().get(0)
}

#[test]
fn a_signal_ends_it_when_its_requests_are_answered() {
    let postgres = postgres_server(30);
    let mut control = with_world(postgres.address());
    let database = format!(
        "host=127.0.0.1 port={} user=postgres",
        postgres.address().port()
    );
    let service = Service::start(&[
        "--database",
        &database,
        "--patience",
        "60",
        "--grace",
        "600",
    ]);
    let mut idle = common::Client::connect(service.addr);
    assert_eq!(idle.get("/json").status, 200);
    let mut half = common::Client::connect(service.addr);
    half.send("GET /json HTTP/1.1\r\n");
    let mut busy = common::Client::connect(service.addr);

    let mut holder = config(postgres.address()).connect(NoTls).unwrap();
    let mut lock = holder.transaction().unwrap();
    lock.batch_execute("LOCK TABLE world").unwrap();
    busy.send(get("/db") + &get("/json"));
    while waiting(&mut control) == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    service.terminate();
    idle.ended();
    half.ended();
    // Nobody new, and the one that waits still waits.
    assert_eq!(waiting(&mut control), 1);
    lock.commit().unwrap();
    let answer = busy.answer();
    assert_eq!(answer.status, 200, "{answer:?}");
    row(&answer.body);
    assert!(answer.has("Connection: close"), "{answer:?}");
    busy.ended();
    let said = service.ended();
    assert_eq!(said, "signal 15: ending\n");
}

#[test]
fn the_grace_ends_what_does_not_end() {
    let postgres = postgres_server(30);
    let mut control = with_world(postgres.address());
    let database = format!(
        "host=127.0.0.1 port={} user=postgres",
        postgres.address().port()
    );
    let service = Service::start(&["--database", &database, "--patience", "60", "--grace", "1"]);
    let mut holder = config(postgres.address()).connect(NoTls).unwrap();
    let mut lock = holder.transaction().unwrap();
    lock.batch_execute("LOCK TABLE world").unwrap();
    let mut busy = common::Client::connect(service.addr);
    busy.send(get("/db"));
    while waiting(&mut control) == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    service.terminate();
    busy.ended();
    service.ended();
    lock.commit().unwrap();
}

#[test]
fn wrong_arguments_are_explained() {
    for (args, why) in [
        (&["--pool", "0"][..], "at least 1"),
        (&["--create"], "--database"),
        (&["--listen", "nowhere"], "nowhere"),
        (&["--other"], "--other"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crore-http"));
        let said = command.args(args).output().unwrap();
        assert_eq!(said.status.code(), Some(2));
        let text = String::from_utf8_lossy(&said.stderr);
        assert!(text.contains(why), "{args:?}: {text}");
    }
}
