//! The network of a simulation: TCP and UDP between its nodes, in memory and in virtual
//! time.
//!
//! ```text
//!  program a        wire            in flight            wire        program b
//!  connect ═══ Unix stream ══ end ── lane, link ── end ══ Unix stream ═══ accept
//! ```
//!
//! A program's Internet socket is a Unix socket of the kernel's, whose other end is the
//! *wire's*. So readiness, duplicates, flags, blocking, `close` and event loops are the
//! kernel's own. The wire takes what programs write ([`Net::pump`]), lets it travel as the
//! link says, and writes it to the other end when it is due ([`Net::advance`]). What a
//! Unix socket does not know is answered in the kernel's place ([`Net::call`]): addresses,
//! the Internet's options, why a connection failed.
//!
//! All is decided by the seed, the times of the calls and what programs do: numbers of
//! descriptors, which others of the process take, too, decide nothing.
//!
//! Not there: multicast, urgent data, `TCP_INFO` beyond the state, `TIME_WAIT`, time
//! stamps and other ancillary data of datagrams; several packets that are acknowledged
//! late. A server accepts when the first packet has come, not the third.

mod address;
mod calls;
mod connection;
mod link;
mod options;
mod socket;
mod state;
mod tcp;
#[cfg(test)]
mod tests;
mod transfer;
mod udp;
mod wire;

pub use link::Link;
pub(super) use state::Net;
