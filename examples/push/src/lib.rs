//! A push service: clients hold WebSockets, subscribe to channels, and get what others
//! publish there, in order, and what they have missed when they come back.
//!
//! - `gateway` accepts, `head` reads the first request, `transport` has the bytes, plain
//!   or by TLS; `session` is a WebSocket's life, in one coroutine of blocking code;
//! - `channel` has a channel's history and its subscribers' places in it, `channels` all
//!   of them; `bus` makes several nodes one service;
//! - `protocol` has the messages, `config` the settings, `rate` a client's limit;
//! - `service` is what they share, `node` begins and ends it; `admin` and `counters`
//!   show what it does.

#![warn(missing_docs)]

pub mod admin;
pub mod bus;
pub mod channel;
pub mod channels;
pub mod config;
pub mod counters;
pub mod gateway;
pub mod head;
pub mod node;
pub mod protocol;
pub mod rate;
pub mod service;
pub mod session;
pub mod transport;
