//! crore, as a program that `peers` starts; see `subject.rs` of `crore-peers`.

use std::process::ExitCode;

use crore_benches::on_crore::{Own, Shared, Two, work};
use crore_benches::serve;
use crore_peers::subject::{Runtime, main as subject};

fn main() -> ExitCode {
    subject(&[
        Runtime {
            name: "crore",
            work: work::<Own>,
            serve: Some(serve::own),
            pipelined: Some(serve::pipelined_own),
        },
        Runtime {
            name: "crore-shared",
            work: work::<Shared>,
            serve: Some(serve::shared),
            pipelined: Some(serve::pipelined_shared),
        },
        Runtime {
            name: "crore-2",
            work: work::<Two>,
            serve: None,
            pipelined: None,
        },
    ])
}
