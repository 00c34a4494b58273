//! What the tests of this package share: servers to start and stop, and many
//! coroutines on one kernel thread. The tests are in `tests/`, a file for
//! each protocol; `docs/COMPATIBILITY.md` says what they found.

pub mod allocator;
mod crowd;
pub mod hiredis;
pub mod libpq;
mod listen;
mod postgres_server;
mod redis_server;
mod server;
mod slow_http;

pub use crowd::{
    MOMENT, STACK, crowd, each, kernel_thread, like_threads, on_one_thread, on_threads, overlapped,
    overlapped_by, shared_crowd, spread_crowd,
};
pub use listen::listen;
pub use postgres_server::postgres_server;
pub use redis_server::redis_server;
pub use server::{Server, command, free_port, home, set_up};
pub use slow_http::SlowHttp;
