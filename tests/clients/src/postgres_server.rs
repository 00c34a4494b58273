//! A PostgreSQL of a test's own, for its Rust and its C client.

use std::thread;
use std::time::{Duration, Instant};

use crate::libpq::query;
use crate::{Server, command, free_port, home, set_up};

const PACKAGE: &str = "postgresql";

/// Starts one that takes `connections` of them from the user `postgres`
/// without a password.
///
/// # Panics
///
/// If it can't be started, with the reason.
pub fn postgres_server(connections: usize) -> Server {
    let home = home();
    let data = home.path().join("data");
    let mut init = command("initdb", PACKAGE);
    init.arg("-D").arg(&data);
    init.args([
        "-A",
        "trust",
        "-U",
        "postgres",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    set_up(init);
    let port = free_port();
    let args = [
        "-D".into(),
        data.into_os_string(),
        "-p".into(),
        port.to_string().into(),
        "-N".into(),
        connections.to_string().into(),
        "-c".into(),
        "listen_addresses=127.0.0.1".into(),
        "-c".into(),
        "unix_socket_directories=".into(),
        "-c".into(),
        "fsync=off".into(),
    ];
    // Killed, it would leave shared memory and its children behind.
    let server = Server::start("postgres", PACKAGE, home, port, &args).stopped_by("INT");
    // It takes connections before it answers them, and ends some that come too early.
    let begun = Instant::now();
    while let Err(words) = query(server.address(), "SELECT 1", None) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{words}");
        thread::sleep(Duration::from_millis(10));
    }
    server
}
