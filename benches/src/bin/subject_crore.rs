//! crore, as a program that `peers` starts; see `subject.rs` of `crore-peers`.

use std::io;
use std::net::TcpListener;
use std::process::ExitCode;

use crore_benches::on_crore::{Own, Shared, Two, work};
use crore_peers::serve::{echo, echo_on_heap};
use crore_peers::subject::{Runtime, main as subject};

fn main() -> ExitCode {
    subject(&[
        Runtime {
            name: "crore",
            work: work::<Own>,
            serve: Some(own),
        },
        Runtime {
            name: "crore-shared",
            work: work::<Shared>,
            serve: Some(shared),
        },
        Runtime {
            name: "crore-2",
            work: work::<Two>,
            serve: None,
        },
    ])
}

fn own(listener: TcpListener) -> io::Result<()> {
    crore::run(|| {
        for stream in listener.incoming() {
            let stream = stream?;
            let builder = crore::Builder::new().stack_size(32 * 1024);
            drop(builder.spawn(move || echo(stream))?);
        }
        Ok(())
    })?
}

fn shared(listener: TcpListener) -> io::Result<()> {
    crore::run(|| {
        for stream in listener.incoming() {
            let stream = stream?;
            // SAFETY: the coroutine owns its socket and its buffer; nobody
            // gets a pointer into its frames.
            drop(unsafe { crore::spawn_shared(move || echo_on_heap(stream)) });
        }
        Ok(())
    })?
}
