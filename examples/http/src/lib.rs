//! An HTTP/1.1 service of plain `std::net` code: `/plaintext`, `/json`, and with a
//! PostgreSQL `/db` and `/queries?n=20`, in the shapes of TechEmpower's benchmark.
//!
//! - [`connection`] HTTP on one connection: keep-alive, pipelining, limits of size and time.
//!   It knows std and httparse, and runs on threads as well
//! - [`app`] what is answered · [`pool`] connections of the blocking crate `postgres`
//! - [`server`] crore's part: a coroutine for each connection, and the drain

pub mod app;
pub mod connection;
mod date;
pub mod pool;
pub mod server;
