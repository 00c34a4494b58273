//! What crore is compared with, as a program that `peers` starts; see
//! `subject.rs` of the library.

use std::process::ExitCode;

use crore_peers::serve::pipelined;
use crore_peers::subject::{Runtime, main as subject};
use crore_peers::{on_may, on_threads, on_tokio, raw, serve};

fn main() -> ExitCode {
    subject(&[
        Runtime {
            name: "epoll",
            work: |_| None,
            serve: Some(serve::epoll),
            pipelined: Some(pipelined::epoll),
        },
        Runtime {
            name: "corosensei",
            work: raw::work,
            serve: None,
            pipelined: None,
        },
        Runtime {
            name: "tokio",
            work: on_tokio::work::<1>,
            serve: Some(serve::tokio),
            pipelined: Some(pipelined::tokio),
        },
        Runtime {
            name: "tokio-2",
            work: on_tokio::work::<2>,
            serve: None,
            pipelined: None,
        },
        Runtime {
            name: "may",
            work: on_may::work,
            serve: Some(serve::may),
            pipelined: Some(pipelined::may),
        },
        Runtime {
            name: "monoio",
            work: |_| None,
            serve: Some(serve::monoio),
            pipelined: Some(pipelined::monoio),
        },
        Runtime {
            name: "smol",
            work: |_| None,
            serve: Some(serve::smol),
            pipelined: Some(pipelined::smol),
        },
        Runtime {
            name: "threads",
            work: on_threads::work,
            serve: Some(serve::threads),
            pipelined: Some(pipelined::threads),
        },
    ])
}
