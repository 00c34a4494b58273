//! Waits in `recv` and `read` that keep little on the stack: how they end, and
//! how little it is.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

type Call = fn(RawFd, &mut [u8]) -> io::Result<usize>;

fn recv(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: a buffer of that length.
    let got = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: a buffer of that length.
    let got = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

const CALLS: [Call; 2] = [recv, read];

/// A connection of which one end has waited already, with `call`: whatever has
/// to be found out about its descriptor is known.
fn pair(call: Call) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let here = listener.accept().unwrap().0;
    for _ in 0..2 {
        let fd = here.as_raw_fd();
        let waits = crore::spawn_local(move || call(fd, &mut [0; 9]).unwrap());
        crore::yield_now();
        there.write_all(b"hello").unwrap();
        assert_eq!(waits.join().unwrap(), 5);
    }
    (here, there)
}

/// Waits until `done` says so, while others run.
fn until(done: impl Fn() -> bool) {
    while !done() {
        crore::sleep(Duration::from_millis(1));
    }
}

#[test]
fn wake_ups_for_nothing_end_no_wait_and_errno_stays() {
    crore::run(|| {
        for call in CALLS {
            let (here, mut there) = pair(call);
            let got = Rc::new(Cell::new(None));
            let waits = crore::spawn_local({
                let got = Rc::clone(&got);
                move || {
                    // SAFETY: libc's own thread-local.
                    unsafe { *libc::__errno_location() = 77 };
                    let mut buffer = [0; 9];
                    let count = call(here.as_raw_fd(), &mut buffer);
                    got.set(Some((buffer[0], count.unwrap())));
                    // SAFETY: as above.
                    unsafe { *libc::__errno_location() }
                }
            });
            for _ in 0..3 {
                crore::yield_now();
                // SAFETY: as above. Another coroutine's errno is not ours.
                unsafe { *libc::__errno_location() = 5 };
                waits.coroutine().unpark();
                crore::yield_now();
                assert_eq!(got.get(), None);
            }
            there.write_all(b"x").unwrap();
            assert_eq!(waits.join().unwrap(), 77);
            assert_eq!(got.get(), Some((b'x', 1)));
        }
    })
    .unwrap();
}

#[test]
fn of_two_who_wait_each_gets_a_byte() {
    crore::run(|| {
        for call in CALLS {
            let (here, mut there) = pair(call);
            let got = Rc::new(RefCell::new(Vec::new()));
            let here = Rc::new(here);
            let waits: Vec<_> = (0..2)
                .map(|_| {
                    let (here, got) = (Rc::clone(&here), Rc::clone(&got));
                    crore::spawn_local(move || {
                        let mut byte = [0];
                        assert_eq!(call(here.as_raw_fd(), &mut byte).unwrap(), 1);
                        got.borrow_mut().push(byte[0]);
                    })
                })
                .collect();
            crore::yield_now();
            there.write_all(b"a").unwrap();
            until(|| !got.borrow().is_empty());
            // Both were woken, one found nothing and waits again.
            for _ in 0..3 {
                crore::sleep(Duration::from_millis(1));
                assert_eq!(*got.borrow(), b"a");
            }
            there.write_all(b"b").unwrap();
            waits.into_iter().for_each(|waits| waits.join().unwrap());
            assert_eq!(*got.borrow(), b"ab");
        }
    })
    .unwrap();
}

#[test]
fn a_descriptor_that_is_closed_or_whose_peer_ends_ends_the_wait() {
    crore::run(|| {
        for call in CALLS {
            let (here, there) = pair(call);
            let fd = here.as_raw_fd();
            let waits = crore::spawn_local(move || call(fd, &mut [0]).unwrap());
            crore::yield_now();
            drop(there);
            assert_eq!(waits.join().unwrap(), 0);

            let (here, _there) = pair(call);
            let fd = here.into_raw_fd();
            let waits = crore::spawn_local(move || call(fd, &mut [0]).unwrap_err());
            crore::yield_now();
            // SAFETY: ours, closed once.
            assert_eq!(unsafe { libc::close(fd) }, 0);
            let error = waits.join().unwrap();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
    })
    .unwrap();
}

#[test]
fn what_ends_a_coroutine_or_limits_its_time_ends_the_wait() {
    crore::run(|| {
        for call in CALLS {
            let (here, _there) = pair(call);
            let fd = here.as_raw_fd();
            let code = move || call(fd, &mut [0]).unwrap_err().raw_os_error();
            let waits = crore::spawn_local(move || {
                let first = code();
                assert_eq!(code(), first, "and every later wait");
                first
            });
            crore::yield_now();
            waits.cancel();
            assert_eq!(waits.join().unwrap(), Some(libc::ECANCELED));

            let late = crore::timeout(Duration::from_millis(5), code);
            assert!(late.is_err() || late == Ok(Some(libc::ETIMEDOUT)));

            here.set_read_timeout(Some(Duration::from_millis(5)))
                .unwrap();
            assert_eq!(code(), Some(libc::EAGAIN));
            here.set_read_timeout(None).unwrap();
            here.set_nonblocking(true).unwrap();
            assert_eq!(code(), Some(libc::EAGAIN));
        }
    })
    .unwrap();
}

/// Optimised builds only: others keep every variable on the stack.
#[cfg(not(debug_assertions))]
#[test]
fn a_shared_coroutine_that_waits_keeps_little() {
    let runtime = crore::Runtime::builder()
        .shared_stacks(1, 1 << 20)
        .check_shared(false)
        .build()
        .unwrap();
    for call in CALLS {
        runtime
            .run(|| {
                let (ours, theirs): (Vec<_>, Vec<_>) = (0..2).map(|_| pair(call)).unzip();
                let waits: Vec<_> = ours
                    .into_iter()
                    .map(|stream| {
                        let reads = move || call(stream.as_raw_fd(), &mut [0]).unwrap();
                        // SAFETY: only the hook gets a pointer to the byte.
                        unsafe { crore::spawn_shared(reads) }
                    })
                    .collect();
                // The second displaces the first from their one stack.
                crore::yield_now();
                drop(theirs);
                waits
                    .into_iter()
                    .for_each(|waits| assert_eq!(waits.join().unwrap(), 0));
            })
            .unwrap();
    }
    let metrics = runtime.metrics();
    assert!(metrics.frame_saves > 0, "{metrics:?}");
    println!("{} bytes", metrics.largest_frame);
    assert!(metrics.largest_frame <= 256, "{metrics:?}");
}
