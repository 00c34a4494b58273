//! Calls that fail, or do less than they were asked to, in simulations.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crore::sim::{self, Faults, Sim};

const SECOND: Duration = Duration::from_secs(1);

/// In half a minute, beside faults that have nothing to do with them.
fn among_others(add: fn(Faults) -> Faults) -> Faults {
    let faults = Faults::within(30 * SECOND).crashes(1).cuts(1).resets(1);
    add(faults.clocks(1))
}

fn all_of_calls(faults: Faults) -> Faults {
    let faults = faults.short_transfers(3).interruptions(3);
    faults.false_readiness(3).descriptor_shortages(2)
}

/// A server, and a client that asks it something once a second, and mends itself.
fn asks(sim: Sim, add: fn(Faults) -> Faults, server: fn()) {
    sim.faults(among_others(add))
        .node("server", server)
        // Nodes at random have the plan's faults.
        .client("client", || {
            for number in 0..40 {
                thread::sleep(SECOND);
                let _ = ask(number);
            }
        })
        .run();
}

/// Sends a line of some length, and must get back the same, or an error.
fn ask(number: usize) -> io::Result<()> {
    let address = "10.0.0.1:7".parse().unwrap();
    let stream = TcpStream::connect_timeout(&address, SECOND / 2)?;
    stream.set_read_timeout(Some(SECOND / 2))?;
    let line = format!("{number:0width$}\n", width = 4 + number * 30);
    (&stream).write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    // One that is cut is one that a crash has ended.
    assert!(
        line.starts_with(&answer),
        "{line:?} was answered by {answer:?}"
    );
    if answer.ends_with('\n') {
        Ok(())
    } else {
        Err(ErrorKind::UnexpectedEof.into())
    }
}

fn listen() -> TcpListener {
    TcpListener::bind("0.0.0.0:7").unwrap()
}

/// Survives all of it.
fn careful() {
    let listener = loop {
        match TcpListener::bind("0.0.0.0:7") {
            Ok(listener) => break listener,
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE)),
        }
        thread::sleep(SECOND);
    };
    loop {
        match listener.accept() {
            Ok((stream, _)) => drop(thread::spawn(move || answer(&stream))),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                thread::sleep(SECOND / 10);
            }
        }
    }
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    stream.write_all(line.as_bytes())
}

#[test]
fn careful_programs_see_no_difference() {
    sim::check(0..60, |sim| asks(sim, all_of_calls, careful));
}

#[test]
fn faults_of_calls_repeat() {
    sim::check_repeats(0..10, |sim| asks(sim, all_of_calls, careful));
}

/// Takes what one `read` gives for a whole line.
fn reads_once() {
    for stream in listen().incoming() {
        let mut stream = stream.unwrap();
        let mut line = vec![0; 1 << 16];
        if let Ok(len) = stream.read(&mut line) {
            assert!(len == 0 || line[..len].ends_with(b"\n"), "half a line");
            let _ = stream.write_all(&line[..len]);
        }
    }
}

/// Takes it that `write` writes all.
fn writes_once() {
    for stream in listen().incoming() {
        let stream = stream.unwrap();
        let mut line = String::new();
        if BufReader::new(&stream).read_line(&mut line).is_ok() {
            let written = (&stream).write(line.as_bytes());
            assert!(
                written.is_err() || written.unwrap() == line.len(),
                "half a line"
            );
        }
    }
}

/// Takes every error of `read` for the end of the world.
fn reads_uninterrupted() {
    for stream in listen().incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut line = Vec::new();
        let mut bytes = [0; 1024];
        while !line.ends_with(b"\n") {
            match stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(len) => line.extend_from_slice(&bytes[..len]),
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::Interrupted);
                    break;
                }
            }
        }
        let _ = stream.write_all(&line);
    }
}

/// Takes an event for a promise that something is there.
fn reads_what_is_told() {
    event_loop(libc::EPOLLIN, |stream| {
        let mut bytes = [0; 1 << 16];
        match (&*stream).read(&mut bytes) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => (&*stream).write_all(&bytes[..len]),
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "told in vain");
                Err(error)
            }
        }
    });
}

/// Takes it that there are always descriptors.
fn accepts_always() {
    for stream in listen().incoming() {
        let _ = answer(&stream.expect("a connection"));
    }
}

/// What the check of a planted program says, which runs in a process of its own.
pub(super) fn check_of(planted: &str) -> String {
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args([planted, "--exact", "--ignored", "--nocapture"]);
    let ended = test.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success(), "nothing was found: {said}");
    said
}

macro_rules! planted {
    ($($test:ident of $program:ident: $add:expr, $words:literal;)*) => {
        mod planted {
            $(#[test]
            #[ignore = "it fails"]
            fn $program() {
                super::sim::check(0..300, |sim| super::asks(sim, $add, super::$program));
            })*
        }

        /// Found among other faults, which are left out.
        $(#[test]
        fn $test() {
            let said = check_of(concat!("calls::planted::", stringify!($program)));
            assert!(said.contains(" with 1 of its "), "{said}");
            assert!(said.contains($words), "{said}");
        })*
    };
}

planted! {
    who_reads_once_is_found of reads_once:
        |faults| faults.short_transfers(3), "server reads and writes a part";
    who_writes_once_is_found of writes_once:
        |faults| faults.short_transfers(3), "server reads and writes a part";
    who_does_not_read_again_is_found of reads_uninterrupted:
        |faults| faults.interruptions(3), "server is interrupted";
    who_believes_events_is_found of reads_what_is_told:
        |faults| faults.false_readiness(3), "server finds nothing";
    who_always_accepts_is_found of accepts_always:
        |faults| faults.descriptor_shortages(3), "server has no descriptors left";
}

/// Serves connections in one thread by an epoll: each, when it may be readable. One that
/// fails is over.
fn event_loop(how: i32, mut serve: impl FnMut(&TcpStream) -> io::Result<()>) {
    let listener = listen();
    listener.set_nonblocking(true).unwrap();
    // SAFETY: no pointers; it is new.
    let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
    watch(&epoll, listener.as_raw_fd(), how);
    let mut streams = std::collections::HashMap::new();
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    loop {
        // SAFETY: a place for one event.
        let told = unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, -1) };
        if told < 1 {
            continue;
        }
        let fd = event.u64 as RawFd;
        if fd == listener.as_raw_fd() {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).unwrap();
                watch(&epoll, stream.as_raw_fd(), how);
                streams.insert(stream.as_raw_fd(), stream);
            }
        } else if streams
            .get(&fd)
            .is_some_and(|stream| serve(stream).is_err())
        {
            streams.remove(&fd);
        }
    }
}

fn watch(epoll: &OwnedFd, fd: RawFd, how: i32) {
    let mut event = libc::epoll_event {
        events: how as u32,
        u64: fd as u64,
    };
    let (epoll, add) = (epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: an event, which is only read.
    let added = unsafe { libc::epoll_ctl(epoll, add, fd, &raw mut event) };
    assert_eq!(added, 0);
}

/// By edges, and as `epoll(7)` has it: a read that is short has left nothing. It would wait
/// for ever if that were not so.
#[test]
fn loops_that_are_told_once_go_on() {
    fn serves() {
        let mut lines = std::collections::HashMap::<RawFd, Vec<u8>>::new();
        event_loop(libc::EPOLLIN | libc::EPOLLET, move |mut stream| {
            let line = lines.entry(stream.as_raw_fd()).or_default();
            let mut bytes = [0; 1024];
            loop {
                match stream.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(len) => {
                        line.extend_from_slice(&bytes[..len]);
                        if len < bytes.len() {
                            break;
                        }
                    }
                    Err(_) => break,
                }
            }
            if !line.ends_with(b"\n") {
                return Ok(());
            }
            let mut line = std::mem::take(line);
            while !line.is_empty() {
                match stream.write(&line) {
                    Ok(len) => drop(line.drain(..len)),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            Err(ErrorKind::UnexpectedEof.into())
        });
    }
    sim::check(0..100, |sim| {
        let faults = Faults::within(30 * SECOND).lasting(20 * SECOND);
        sim.faults(faults.short_transfers(2).false_readiness(2))
            .node("server", serves)
            .client("client", || {
                thread::sleep(SECOND);
                // Nothing breaks, so nothing fails.
                (0..40).for_each(|number| {
                    ask(number).unwrap();
                    thread::sleep(SECOND / 2);
                });
            })
            .run();
    });
}

#[test]
fn datagrams_stay_whole() {
    sim::check(0..20, |sim| {
        let faults = Faults::within(10 * SECOND).lasting(10 * SECOND);
        sim.faults(faults.short_transfers(5))
            .node("server", || {
                let socket = UdpSocket::bind("0.0.0.0:7").unwrap();
                let mut bytes = [0; 1000];
                loop {
                    let (len, from) = socket.recv_from(&mut bytes).unwrap();
                    assert_eq!(len, 900);
                    assert_eq!(socket.send_to(&bytes[..len], from).unwrap(), 900);
                }
            })
            .client("client", || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect("server:7").unwrap();
                for _ in 0..100 {
                    thread::sleep(SECOND / 10);
                    socket.send(&[1; 900]).unwrap();
                }
            })
            .run();
    });
}

/// What is to be whole, and what is looked at only.
#[test]
fn what_is_to_be_whole_is() {
    sim::check(0..20, |sim| {
        let faults = Faults::within(SECOND).lasting(100 * SECOND);
        sim.faults(faults.short_transfers(20))
            .node("server", || {
                let (stream, _) = listen().accept().unwrap();
                let mut bytes = [0_u8; 500];
                for _ in 0..50 {
                    let (fd, place) = (stream.as_raw_fd(), bytes.as_mut_ptr().cast());
                    // SAFETY: room for as many bytes.
                    let got = unsafe { libc::recv(fd, place, 500, libc::MSG_WAITALL) };
                    assert_eq!(got, 500);
                }
            })
            .client("client", || {
                thread::sleep(2 * SECOND);
                let mut stream = TcpStream::connect("server:7").unwrap();
                stream.write_all(&[7; 25_000]).unwrap();
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            })
            .run();
    });
}

/// Duplicates and files count; what is closed does not.
#[test]
fn descriptors_are_counted_by_machine() {
    Sim::new(1)
        .node("other", || thread::sleep(9 * SECOND))
        .client("test", || {
            sim::limit_descriptors("other", 0);
            sim::limit_descriptors("test", 4);
            let listener = listen();
            let again = listener.try_clone().unwrap();
            let file = std::fs::File::open("/proc/self/exe").unwrap();
            let stream = TcpStream::connect("test:7").unwrap();
            let full = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            full(listener.accept().unwrap_err());
            full(listener.try_clone().unwrap_err());
            full(std::fs::File::open("/proc/self/exe").unwrap_err());
            full(std::os::unix::net::UnixStream::pair().unwrap_err());
            drop(again);
            full(std::os::unix::net::UnixStream::pair().unwrap_err());
            // The connection has waited.
            drop(listener.accept().unwrap());
            drop((file, stream));
            std::os::unix::net::UnixStream::pair().unwrap();
            sim::limit_descriptors("test", usize::MAX);
            std::os::unix::net::UnixStream::pair().unwrap();
        })
        .run();
}

#[test]
fn a_trace_names_faults_of_calls() {
    let report = Sim::new(5)
        .trace(true)
        .faults(all_of_calls(Faults::within(SECOND).lasting(60 * SECOND)))
        .node("server", careful)
        .client("client", || {
            for number in 0..30 {
                thread::sleep(SECOND);
                let _ = ask(number);
            }
        })
        .run();
    let trace = report.trace().join("\n");
    for words in [
        "fault: t=0.",
        "server reads and writes a part of what it could for ",
        "server is interrupted in its calls for ",
        ": a call server:7 (listening) → Interrupted system call (os error 4)",
        "a new descriptor  → Too many open files (os error 24)",
    ] {
        assert!(trace.contains(words), "{words}: {trace}");
    }
}

/// It goes on without its caller, who may wait for it, or call again as std does.
#[test]
fn a_connect_that_is_interrupted_goes_on() {
    use std::sync::atomic::{AtomicU64, Ordering};

    static INTERRUPTED: AtomicU64 = AtomicU64::new(0);
    for seed in 0..20 {
        let faults = Faults::within(SECOND).lasting(100 * SECOND);
        Sim::new(seed)
            .faults(faults.interruptions(9))
            .client("server", || {
                let listener = listen();
                for _ in 0..20 {
                    let (mut stream, _) = listener.accept().unwrap();
                    assert_eq!(stream.read(&mut [0; 9]).unwrap(), 5);
                }
            })
            .node("caller", || {
                thread::sleep(2 * SECOND);
                for _ in 0..10 {
                    TcpStream::connect("server:7")
                        .unwrap()
                        .write_all(b"hello")
                        .unwrap();
                    let (mut stream, interrupted) = connect_once();
                    INTERRUPTED.fetch_add(interrupted.into(), Ordering::Relaxed);
                    stream.write_all(b"hello").unwrap();
                }
                thread::sleep(100 * SECOND);
            })
            .run();
    }
    let interrupted = INTERRUPTED.load(Ordering::Relaxed);
    assert!((20..180).contains(&interrupted), "{interrupted}");
}

/// One call of `connect`, by libc's name. Whether it was interrupted; then `poll` says when
/// the connection is there.
fn connect_once() -> (TcpStream, bool) {
    // SAFETY: no pointers; it is new. Zeros are an address.
    let (stream, mut name) = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        (
            TcpStream::from_raw_fd(fd),
            std::mem::zeroed::<libc::sockaddr_in>(),
        )
    };
    name.sin_family = libc::AF_INET as u16;
    name.sin_port = 7_u16.to_be();
    name.sin_addr.s_addr = u32::from_be_bytes([10, 0, 0, 1]).to_be();
    let len = size_of_val(&name) as libc::socklen_t;
    let place = (&raw const name).cast();
    // SAFETY: an address of that length.
    if unsafe { libc::connect(stream.as_raw_fd(), place, len) } == 0 {
        return (stream, false);
    }
    assert_eq!(io::Error::last_os_error().kind(), ErrorKind::Interrupted);
    let mut entry = libc::pollfd {
        fd: stream.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one entry.
    assert_eq!(unsafe { libc::poll(&raw mut entry, 1, -1) }, 1);
    assert!(stream.take_error().unwrap().is_none());
    (stream, true)
}
