//! The servers on crore, one worker: a stack for each connection, or shared ones.

use std::io;
use std::net::{TcpListener, TcpStream};

use crore_peers::pipelined::Service;
use crore_peers::serve::pipelined::converse;
use crore_peers::serve::{echo, echo_on_heap};

/// Echoes on a stack for each connection.
///
/// # Errors
///
/// Those of `accept`, and of a runtime that can't be had.
pub fn own(listener: TcpListener) -> io::Result<()> {
    on_own_stacks(&listener, echo)
}

/// Echoes on shared stacks.
///
/// # Errors
///
/// As [`own`].
pub fn shared(listener: TcpListener) -> io::Result<()> {
    on_shared_stacks(&listener, echo_on_heap)
}

/// Answers requests of `service`, on a stack for each connection.
///
/// # Errors
///
/// As [`own`].
pub fn pipelined_own(listener: TcpListener, service: Service) -> io::Result<()> {
    on_own_stacks(&listener, move |stream| converse(stream, service))
}

/// Answers requests of `service`, on shared stacks.
///
/// # Errors
///
/// As [`own`].
pub fn pipelined_shared(listener: TcpListener, service: Service) -> io::Result<()> {
    on_shared_stacks(&listener, move |stream| converse(stream, service))
}

fn on_own_stacks(
    listener: &TcpListener,
    talk: impl Fn(TcpStream) -> io::Result<()> + Copy + Send + 'static,
) -> io::Result<()> {
    crore::run(|| {
        for stream in listener.incoming() {
            let stream = stream?;
            let builder = crore::Builder::new().stack_size(32 * 1024);
            drop(builder.spawn(move || talk(stream))?);
        }
        Ok(())
    })?
}

fn on_shared_stacks(
    listener: &TcpListener,
    talk: impl Fn(TcpStream) -> io::Result<()> + Copy + Send + 'static,
) -> io::Result<()> {
    crore::run(|| {
        for stream in listener.incoming() {
            let stream = stream?;
            // SAFETY: the coroutine owns its socket and its buffers, which are on the heap;
            // nobody gets a pointer into its frames.
            drop(unsafe { crore::spawn_shared(move || talk(stream)) });
        }
        Ok(())
    })?
}

#[cfg(test)]
mod tests {
    use std::thread;

    use crore_peers::pipelined::check;
    use crore_peers::subject::Pipelined;

    use super::*;

    fn answers_right(serve: Pipelined) {
        for service in Service::ALL {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let server = listener.local_addr().unwrap();
            thread::spawn(move || serve(listener, service).expect("it serves for ever"));
            for piece in [131, 30_001] {
                check(server, service, piece);
            }
        }
    }

    #[test]
    fn own_stacks_answer_right() {
        answers_right(pipelined_own);
    }

    #[test]
    fn shared_stacks_answer_right() {
        answers_right(pipelined_shared);
    }
}
