//! Plain blocking std code in shared coroutines: buffers on the stack, calls
//! that park in the middle, neighbours on the same stack meanwhile.
#![cfg(feature = "hook")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use std::{io, thread};

use crore::{JoinHandle, Runtime};

fn shared<T: 'static>(f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    // SAFETY: the tests below hand out no references to locals, but to hooked
    // calls.
    unsafe { crore::spawn_shared(f) }
}

fn on_stacks<T>(stacks: u32, f: impl FnOnce() -> T) -> T {
    let runtime = Runtime::builder().shared_stacks(stacks, 1 << 20).build();
    runtime.unwrap().run(f).unwrap()
}

/// Sends back what comes, through a buffer on its stack.
fn echo(mut stream: impl Read + Write) -> io::Result<u64> {
    let (mut buffer, mut total) = ([0_u8; 777], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(total),
            n => {
                stream.write_all(&buffer[..n])?;
                total += n as u64;
            }
        }
    }
}

/// Sends `rounds` messages of its own and checks what comes back.
fn ping(mut stream: impl Read + Write, id: u8, rounds: usize) -> io::Result<()> {
    for round in 0..rounds {
        let message = [id.wrapping_add(round as u8); 1500];
        stream.write_all(&message)?;
        let mut back = [0; 1500];
        stream.read_exact(&mut back)?;
        assert_eq!(back, message, "client {id}, round {round}");
    }
    Ok(())
}

fn echo_over_tcp(stacks: u32) {
    on_stacks(stacks, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = shared(move || {
            let connections: Vec<_> = (0..50)
                .map(|_| {
                    let stream = listener.accept().unwrap().0;
                    shared(move || echo(stream).unwrap())
                })
                .collect();
            let each = connections.into_iter().map(|handle| handle.join().unwrap());
            each.sum::<u64>()
        });
        let clients: Vec<_> = (0..50)
            .map(|id| shared(move || ping(TcpStream::connect(address).unwrap(), id, 20).unwrap()))
            .collect();
        clients
            .into_iter()
            .for_each(|handle| handle.join().unwrap());
        assert_eq!(server.join().unwrap(), 50 * 20 * 1500);
    });
}

#[test]
fn echo_on_one_stack() {
    echo_over_tcp(1);
}

#[test]
fn echo_on_eight_stacks() {
    echo_over_tcp(8);
}

#[test]
fn one_that_waits_in_read_and_one_that_waits_in_write() {
    on_stacks(1, || {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        // More than the socket holds: the writer parks in the middle.
        let writer = shared(move || {
            let bytes = vec![9_u8; 4 << 20];
            far.write_all(&bytes).unwrap();
        });
        let reader = shared(move || {
            let (mut buffer, mut total) = ([0; 10_000], 0);
            loop {
                match near.read(&mut buffer).unwrap() {
                    0 => return total,
                    n => {
                        assert!(buffer[..n].iter().all(|&byte| byte == 9));
                        total += n;
                    }
                }
            }
        });
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap(), 4 << 20);
    });
}

#[test]
fn a_read_timeout_and_a_sleep_of_std() {
    on_stacks(1, || {
        let (mut near, _far) = UnixStream::pair().unwrap();
        let timed = shared(move || {
            near.set_read_timeout(Some(Duration::from_millis(10)))
                .unwrap();
            near.read(&mut [0; 100]).unwrap_err().kind()
        });
        let slept = shared(|| {
            let start = Instant::now();
            thread::sleep(Duration::from_millis(10));
            start.elapsed()
        });
        assert_eq!(timed.join().unwrap(), io::ErrorKind::WouldBlock);
        assert!(slept.join().unwrap() >= Duration::from_millis(10));
    });
}

#[test]
fn a_cancelled_read_fails_and_leaves_by_the_question_mark() {
    const ECANCELED: i32 = 125;
    on_stacks(1, || {
        let (mut near, _far) = UnixStream::pair().unwrap();
        let reader = shared(move || near.read(&mut [0; 100]));
        crore::yield_now();
        reader.cancel();
        let error = reader.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(ECANCELED));
    });
}
