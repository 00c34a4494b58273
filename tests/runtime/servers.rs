//! `io::Listener` and `io::copy_bidirectional`: what a server or a proxy writes anew each
//! time. With and without the feature `hook`.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crore::CancelToken;
use crore::io::{Io, Listener, copy_bidirectional, is_cancelled};

use crate::common::{in_child, stderr};

const LONG: Duration = Duration::from_secs(3600);

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

/// More than every buffer takes, and nowhere the same.
fn flood(seed: u32) -> Vec<u8> {
    let mut random = seed;
    let bytes = (0..3_000_000).map(|_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    });
    bytes.collect()
}

/// Writes `bytes` and ends; reads to the end.
fn exchange<S>(stream: S, bytes: Vec<u8>, end: fn(&S) -> io::Result<()>) -> Vec<u8>
where
    for<'a> &'a S: Read + Write,
    S: AsFd + Send + Sync + 'static,
{
    let stream = std::sync::Arc::new(Io::new(stream).unwrap());
    let theirs = std::sync::Arc::clone(&stream);
    let writer = crore::spawn(move || {
        (&*theirs).write_all(&bytes).unwrap();
        end(theirs.get_ref()).unwrap();
    });
    let mut got = Vec::new();
    (&*stream).read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    got
}

#[test]
fn a_proxy_passes_all_bytes_and_both_ends() {
    crore::run(|| {
        let ((client, inside), (outside, server)) = (tcp_pair(), UnixStream::pair().unwrap());
        let proxy = crore::spawn(move || {
            let (inside, outside) = (Io::new(inside)?, Io::new(outside)?);
            copy_bidirectional(&inside, &outside, LONG)
        });
        let end = |stream: &TcpStream| stream.shutdown(Shutdown::Write);
        let asks = crore::spawn(move || exchange::<TcpStream>(client, flood(1), end));
        let end = |stream: &UnixStream| stream.shutdown(Shutdown::Write);
        assert!(exchange::<UnixStream>(server, flood(2), end) == flood(1));
        assert!(asks.join().unwrap() == flood(2));
        assert_eq!(proxy.join().unwrap().unwrap(), (3_000_000, 3_000_000));
    })
    .unwrap();
}

/// The sink is a file that only appends, which the kernel does not splice to.
#[test]
fn what_can_not_be_spliced_goes_through_a_buffer() {
    let path = std::env::temp_dir().join(format!("crore-append-{}", std::process::id()));
    let file = File::options().append(true).create(true).open(&path);
    let bytes = crore::run(|| {
        let (mut client, inside) = UnixStream::pair().unwrap();
        let proxy = crore::spawn(move || {
            let (inside, file) = (Io::new(inside)?, Io::new(file?)?);
            // It can't be read: that direction fails at once.
            copy_bidirectional(&inside, &file, LONG)
        });
        drop(client.write_all(b"to be kept"));
        drop(client);
        proxy.join().unwrap()
    });
    assert!(bytes.unwrap().is_err());
    // Opened for both it works.
    let file = File::options().append(true).read(true).open(&path).unwrap();
    let bytes = crore::run(|| {
        let (mut client, inside) = UnixStream::pair().unwrap();
        client.write_all(b"to be kept").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (inside, file) = (Io::new(inside).unwrap(), Io::new(file).unwrap());
        copy_bidirectional(&inside, &file, LONG)
    });
    let said = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    // What was appended is read again, and sent back, if it was there in time.
    let (there, back) = bytes.unwrap().unwrap();
    assert_eq!((there, &*said), (10, "to be kept"));
    assert!(back == 0 || back == 10);
}

#[test]
fn a_proxy_ends_when_nothing_moves_or_it_is_asked_to() {
    crore::run(|| {
        let ((mut client, inside), (outside, _server)) =
            (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let (inside, outside) = (Io::new(inside).unwrap(), Io::new(outside).unwrap());
        client.write_all(b"one word").unwrap();
        let idle = copy_bidirectional(&inside, &outside, Duration::from_millis(5));
        assert_eq!(idle.unwrap_err().kind(), ErrorKind::TimedOut);
        let late = crore::timeout(Duration::from_millis(5), || {
            copy_bidirectional(&inside, &outside, LONG)
        });
        assert!(late.is_err());
        let token = CancelToken::new();
        let theirs = token.clone();
        let proxy =
            crore::spawn(move || theirs.bind(|| copy_bidirectional(&inside, &outside, LONG)));
        crore::yield_now();
        token.cancel();
        assert!(is_cancelled(&proxy.join().unwrap().unwrap_err()));
    })
    .unwrap();
}

#[test]
#[should_panic(expected = "outside a coroutine")]
fn a_proxy_on_a_thread_is_refused() {
    let (one, other) = UnixStream::pair().unwrap();
    let (one, other) = (Io::new(one).unwrap(), Io::new(other).unwrap());
    let _ = copy_bidirectional(&one, &other, LONG);
}

/// Either side may fail, while it is read and while it is written to: the other side's
/// descriptor stays the caller's.
#[test]
fn a_proxy_says_what_a_side_has_said() {
    crore::run(|| {
        for swapped in [false, true] {
            let ((client, inside), (outside, server)) = (tcp_pair(), tcp_pair());
            let (inside, outside) = (Io::new(inside).unwrap(), Io::new(outside).unwrap());
            let proxy = crore::spawn(move || {
                let result = match swapped {
                    false => copy_bidirectional(&inside, &outside, LONG),
                    true => copy_bidirectional(&outside, &inside, LONG),
                };
                (result, inside)
            });
            crore::yield_now();
            // A connection that is closed without a goodbye resets.
            let server = socket2::Socket::from(server);
            server.set_linger(Some(Duration::ZERO)).unwrap();
            drop(server);
            let (result, inside) = proxy.join().unwrap();
            assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
            // Nothing was said to the other one yet.
            (&inside).write_all(b"sorry").unwrap();
            drop(inside);
            let mut said = String::new();
            Io::new(client).unwrap().read_to_string(&mut said).unwrap();
            assert_eq!(said, "sorry");
        }
        // A sink that takes nothing more, of which there is no splicing, either.
        for path in ["/dev/full", "/proc/self/exe"] {
            let (mut client, inside) = UnixStream::pair().unwrap();
            client.write_all(b"in vain").unwrap();
            let writes = path == "/dev/full";
            let sink = File::options().write(writes).read(true).open(path);
            let (inside, sink) = (Io::new(inside).unwrap(), Io::new(sink.unwrap()).unwrap());
            let refused = copy_bidirectional(&inside, &sink, LONG).unwrap_err();
            let code = refused.raw_os_error().unwrap();
            assert!([libc::ENOSPC, libc::EBADF].contains(&code), "{refused}");
        }
    })
    .unwrap();
}

/// Each side ends for itself, in either order, and what the other says then arrives.
#[test]
fn half_closes_pass_in_both_orders() {
    crore::run(|| {
        for server_first in [false, true] {
            let ((client, inside), (outside, server)) = (tcp_pair(), tcp_pair());
            let proxy = crore::spawn(move || {
                let (inside, outside) = (Io::new(inside)?, Io::new(outside)?);
                copy_bidirectional(&inside, &outside, LONG)
            });
            let [mut client, mut server] = [client, server].map(|one| Io::new(one).unwrap());
            let (first, last) = match server_first {
                true => (&mut server, &mut client),
                false => (&mut client, &mut server),
            };
            first.get_ref().shutdown(Shutdown::Write).unwrap();
            assert_eq!(last.read(&mut [0]).unwrap(), 0);
            let mut said = [0; 4];
            for _ in 0..3 {
                last.write_all(b"more").unwrap();
                first.read_exact(&mut said).unwrap();
            }
            assert!(!proxy.is_finished());
            last.get_ref().shutdown(Shutdown::Write).unwrap();
            assert_eq!(first.read(&mut said).unwrap(), 0);
            let (there, back) = proxy.join().unwrap().unwrap();
            let sent = if server_first { there } else { back };
            assert_eq!((sent, there + back), (12, 12));
        }
    })
    .unwrap();
}

#[test]
fn a_listener_accepts_until_it_is_asked_to_end() {
    crore::run(|| {
        let listener = Listener::with_backlog("127.0.0.1:0", 4).unwrap();
        let addr = listener.local_addr().unwrap();
        let token = CancelToken::new();
        let theirs = token.clone();
        let acceptor = crore::spawn(move || {
            theirs.bind(|| {
                let mut accepted = 0;
                loop {
                    match listener.accept() {
                        Ok(_) => accepted += 1,
                        Err(error) => return (accepted, is_cancelled(&error)),
                    }
                }
            })
        });
        for _ in 0..20 {
            let mut stream = Io::<TcpStream>::connect(addr).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "accepted, and dropped");
        }
        token.cancel();
        assert_eq!(acceptor.join().unwrap(), (20, true));
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let client = crore::spawn(move || Io::<TcpStream>::connect(addr).map(drop));
        crore::select! {
            readable(&listener) => drop(listener.accept().unwrap()),
            after(LONG) => unreachable!(),
        }
        client.join().unwrap().unwrap();
    })
    .unwrap();
}

/// Others run while there is no descriptor, and it goes on when there is one again.
#[test]
fn a_listener_waits_out_that_descriptors_are_short() {
    let output = in_child("a_listener_waits_out_that_descriptors_are_short", || {
        crore::run(|| {
            let listener = Listener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let client = TcpStream::connect(addr).unwrap();
            // As long as there are any.
            let kept: Vec<File> = {
                rlimit::Resource::NOFILE.set(64, 64).unwrap();
                std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
            };
            assert!(!kept.is_empty());
            let acceptor = crore::spawn(move || listener.accept().map(drop));
            let helper = crore::spawn(move || {
                crore::sleep(Duration::from_millis(30));
                drop(kept);
            });
            acceptor.join().unwrap().unwrap();
            helper.join().unwrap();
            drop(client);
        })
        .unwrap();
    });
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("a listener can't accept"));
}
