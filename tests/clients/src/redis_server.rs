//! A Redis of a test's own, for its Rust and its C client.

use crate::{Server, free_port, home};

/// Starts one that keeps nothing on disk.
///
/// # Panics
///
/// If it can't be started, with the reason.
pub fn redis_server() -> Server {
    let port = free_port();
    let settings = format!(
        "--bind 127.0.0.1 --port {port} --daemonize no --appendonly no \
         --maxclients 4000 --tcp-backlog 4096"
    );
    let mut args: Vec<&str> = settings.split(' ').collect();
    args.extend(["--save", ""]);
    Server::start("redis-server", "redis-server", home(), port, &args)
}
