//! The crate `mysql` against MariaDB.

use std::net::SocketAddr;
use std::time::Duration;

use crore_clients::{
    Server, command, crowd, each, free_port, home, on_one_thread, overlapped, overlapped_by, set_up,
};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

const CROWD: usize = 1000;

/// A limit for reads that a handshake among two hundred keeps to.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts a MariaDB of the test's own; making its files takes some seconds.
fn mariadb() -> Server {
    let home = home();
    let data = format!("--datadir={}", home.path().join("data").display());
    let mut install = command(
        "mariadb-install-db",
        "mariadb-server-core mariadb-client-core",
    );
    install.args([
        "--no-defaults",
        &data,
        "--auth-root-authentication-method=normal",
    ]);
    install.args(["--skip-test-db", "--skip-name-resolve"]);
    // A server that starts clears its temporary folder of every other's tables.
    install.env("TMPDIR", home.path());
    set_up(install);
    let port = free_port();
    let socket = format!("--socket={}", home.path().join("socket").display());
    let temporary = format!("--tmpdir={}", home.path().display());
    let args = [
        "--no-defaults",
        &data,
        &socket,
        &temporary,
        &format!("--port={port}"),
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--max-connections=1100",
        "--back-log=4096",
    ];
    Server::start("mariadbd", "mariadb-server-core", home, port, &args)
}

fn options(server: SocketAddr) -> OptsBuilder {
    OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(server.port())
        .user(Some("root"))
        .prefer_socket(false)
}

fn connect(server: SocketAddr) -> Conn {
    Conn::new(options(server)).expect("a connection")
}

#[test]
fn a_thousand_wait_at_one_time() {
    let server = mariadb();
    on_one_thread(|| {
        let address = server.address();
        let mut holder = connect(address);
        let held: Option<u8> = holder.query_first("SELECT GET_LOCK('gate', 0)").unwrap();
        assert_eq!(held, Some(1));
        let helper = crore::spawn_local(move || {
            // The server itself says when all of them wait.
            let count = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                         WHERE STATE = 'User lock'";
            while holder.query_first(count).unwrap() != Some(CROWD) {
                crore::sleep(Duration::from_millis(20));
            }
            holder.query_drop("DO RELEASE_LOCK('gate')").unwrap();
        });
        let (answers, _) = crowd(CROWD, move |i| {
            let mut connection = connect(address);
            let got: Option<u8> = connection
                .query_first("SELECT GET_LOCK('gate', 600)")
                .unwrap();
            connection.query_drop("DO RELEASE_LOCK('gate')").unwrap();
            // A prepared statement, by the binary protocol.
            let square: Option<u64> = connection
                .exec_first("SELECT ? * ?", (i as u64, i as u64))
                .unwrap();
            (got, square)
        });
        each(&answers, |i| (Some(1), Some((i * i) as u64)));
        helper.join().unwrap();
    });
}

#[test]
fn a_thousand_waits_end_together() {
    let server = mariadb();
    on_one_thread(|| {
        let address = server.address();
        let (answers, took) = crowd(CROWD, move |i| {
            let mut connection = connect(address);
            connection
                .query_first(format!("SELECT {i} + SLEEP(0.1)"))
                .unwrap()
        });
        each(&answers, |i| Some(i as u64));
        overlapped("mysql SLEEP", CROWD, took);

        // A read timeout breaks the connection off, and only that one.
        let (errors, took) = crowd(200, move |_| {
            let mut connection = Conn::new(options(address).read_timeout(Some(PATIENCE))).unwrap();
            let answer = connection.query_first::<u8, _>("SELECT SLEEP(600)");
            // As the crate passes EAGAIN on.
            answer.unwrap_err().to_string().contains("(os error 11)")
        });
        each(&errors, |_| true);
        overlapped_by("mysql read_timeout", 200, PATIENCE, took);

        let (answers, _) = crowd(50, move |i| {
            // Many packets each way.
            let large = format!("{i} ").repeat(200_000);
            let got: Option<String> = connect(address).exec_first("SELECT ?", (&large,)).unwrap();
            got == Some(large)
        });
        each(&answers, |_| true);
    });
}
