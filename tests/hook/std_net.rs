//! std's sockets and pipes: every blocking function, on threads and in
//! coroutines, with the same results and the same errors.

use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::hook_common::{On, pattern, same, tcp_pair};

/// The kind of an error, or the value.
fn kind<T>(result: io::Result<T>) -> Result<T, (io::ErrorKind, Option<i32>)> {
    result.map_err(|error| (error.kind(), error.raw_os_error()))
}

fn socket_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("crore-std-{}-{number}", std::process::id()))
}

fn tcp_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// What every stream can do, between two of its ends.
macro_rules! streams {
    ($name:ident, $pair:expr) => {
        #[test]
        fn $name() {
            same(|on| {
                let (a, b) = $pair;
                let peer = on.go(move || {
                    let mut out = Vec::new();
                    let mut exact = [0; 5];
                    out.push(kind((&b).read_exact(&mut exact)).map(|()| exact.to_vec()));
                    let (mut x, mut y) = ([0; 2], [0; 3]);
                    let mut two = [IoSliceMut::new(&mut x), IoSliceMut::new(&mut y)];
                    let got = kind((&b).read_vectored(&mut two));
                    out.push(got.map(|n| [&x[..n.min(2)], &y[..n.saturating_sub(2)]].concat()));
                    // The rest of the words, however they were cut.
                    let mut line = String::new();
                    let mut lines = BufReader::new(&b);
                    out.push(kind(lines.read_line(&mut line)).map(|_| Vec::new()));
                    let big = pattern(1 << 20);
                    out.push(kind((&b).write_all(&big)).map(|()| Vec::new()));
                    out.push(kind(b.shutdown(Shutdown::Write)).map(|()| Vec::new()));
                    let mut rest = Vec::new();
                    let end = kind(lines.read_to_end(&mut rest)).map(|_| rest);
                    out.push(end);
                    // Whole words only: a vectored read may have stopped early.
                    out[2] = Ok(Vec::new());
                    out[1] = Ok(Vec::new());
                    out
                });
                let mut out = Vec::new();
                out.push(kind((&a).write(b"hello").map(|n| n as u64)));
                let two = [IoSlice::new(b"ve"), IoSlice::new(b"ctor and a line\n")];
                out.push(kind((&a).write_vectored(&two).map(|n| n as u64)));
                let mut all = Vec::new();
                out.push(kind((&a).read_to_end(&mut all).map(|n| n as u64)));
                out.push(kind((&a).write_all(b"bye").map(|()| 0)));
                out.push(kind((&a).flush().map(|()| 0)));
                out.push(kind(a.shutdown(Shutdown::Both).map(|()| 0)));
                out.push(kind((&a).read(&mut [0]).map(|n| n as u64)));
                out.push(kind((&a).write(b"x").map(|n| n as u64)));
                (out, all, peer.join())
            });
        }
    };
}

streams!(tcp_streams, tcp_pair());
streams!(unix_streams, UnixStream::pair().unwrap());

#[test]
fn time_limits_and_peeks() {
    same(|_| {
        let (a, b) = tcp_pair();
        let mut out = Vec::new();
        for limit in [Duration::ZERO, Duration::from_millis(20)] {
            out.push(kind(a.set_read_timeout(Some(limit)).map(|()| 0)));
            out.push(kind(a.set_write_timeout(Some(limit)).map(|()| 0)));
        }
        out.push(kind((&a).read(&mut [0])));
        out.push(kind(a.peek(&mut [0])));
        (&b).write_all(b"xyz").unwrap();
        out.push(kind(a.peek(&mut [0; 2])));
        out.push(kind((&a).read(&mut [0; 9])));
        out.push(kind(
            io::copy(&mut io::repeat(7), &mut &a).map(|n| n as usize),
        ));
        let limits = (a.read_timeout().unwrap(), a.write_timeout().unwrap());
        a.set_nonblocking(true).unwrap();
        out.push(kind((&a).read(&mut [0])));
        // How much was written before the limit is the kernel's affair.
        (out, limits)
    });
}

#[test]
fn tcp_listeners_and_connects() {
    same(|on| {
        let (listener, addr) = tcp_listener();
        let server = on.go(move || {
            let first = kind(listener.accept()).map(|(_, from)| from.ip());
            let second = listener.incoming().next().map(|one| kind(one).map(drop));
            listener.set_nonblocking(true).unwrap();
            let third = kind(listener.accept()).map(drop);
            (first, second, third, kind(listener.take_error()).map(drop))
        });
        let one = kind(TcpStream::connect(addr)).map(drop);
        let two = kind(TcpStream::connect_timeout(&addr, Duration::from_secs(60))).map(drop);
        let served = server.join();
        let gone = kind(TcpStream::connect(addr)).map(drop);
        let zero = kind(TcpStream::connect_timeout(&addr, Duration::ZERO)).map(drop);
        let nowhere = kind(TcpStream::connect("256.0.0.1:1"))
            .map(drop)
            .map_err(|(kind, _)| kind);
        (one, two, served, gone, zero, nowhere)
    });
}

#[test]
fn udp() {
    same(|on| {
        let [a, b] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let (to_a, to_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        let echo = on.go(move || {
            let mut out = Vec::new();
            let mut buf = [0; 16];
            for _ in 0..3 {
                let (n, from) = b.recv_from(&mut buf).unwrap();
                out.push((n, from == to_a));
                b.send_to(&buf[..n], from).unwrap();
            }
            b.connect(to_a).unwrap();
            out.push((b.recv(&mut buf).unwrap(), true));
            out.push((b.send(b"last").unwrap(), true));
            out
        });
        let (mut out, mut buf) = (Vec::new(), [0; 4]);
        for word in [&b"abc"[..], b"", b"longer than that"] {
            out.push(kind(a.send_to(word, to_b)));
            out.push(kind(a.peek(&mut buf)));
            out.push(kind(a.recv_from(&mut buf).map(|(n, _)| n)));
        }
        a.connect(to_b).unwrap();
        out.push(kind(a.send(b"x")));
        out.push(kind(a.recv(&mut buf)));
        out.push(kind(
            a.set_read_timeout(Some(Duration::from_millis(10)))
                .map(|()| 0),
        ));
        out.push(kind(a.recv(&mut buf)));
        let echoed = echo.join();
        // Its socket is closed: the kernel says so, once.
        out.push(kind(a.send(b"x")));
        out.push(kind(a.recv(&mut buf)));
        (out, echoed)
    });
}

#[test]
fn unix_listeners() {
    same(|on| {
        let path = socket_path();
        let listener = UnixListener::bind(&path).unwrap();
        let server = on.go(move || {
            let (mut peer, from) = listener.accept().unwrap();
            let mut text = String::new();
            peer.read_to_string(&mut text).unwrap();
            let second = listener.incoming().next().map(|one| kind(one).map(drop));
            (from.is_unnamed(), text, second)
        });
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"by path").unwrap();
        drop(stream);
        let second = kind(UnixStream::connect(&path)).map(drop);
        let served = server.join();
        let refused = kind(UnixStream::connect(&path)).map(drop);
        std::fs::remove_file(&path).unwrap();
        let missing = kind(UnixStream::connect(&path)).map(drop);
        (served, second, refused, missing)
    });
}

#[test]
fn unix_datagrams() {
    same(|on| {
        let paths = [socket_path(), socket_path()];
        let [a, b] = [&paths[0], &paths[1]].map(|path| UnixDatagram::bind(path).unwrap());
        let to = paths[1].clone();
        let from = paths[0].clone();
        let reader = on.go(move || {
            let mut buf = [0; 8];
            let (n, sender) = b.recv_from(&mut buf).unwrap();
            let known = sender.as_pathname() == Some(&from);
            b.connect(&from).unwrap();
            let mut lens = vec![n];
            // More than the queue holds: the sender waits.
            lens.extend((0..2000).map(|_| b.recv(&mut buf).unwrap()));
            (known, lens, kind(b.send(b"done")))
        });
        let mut out = vec![kind(a.send_to(b"first", &to))];
        a.connect(&to).unwrap();
        out.extend((0..2000).map(|i| kind(a.send(&b"12345678"[..i % 9]))));
        out.push(kind(a.recv(&mut [0; 16])));
        let read = reader.join();
        out.push(kind(a.send(b"x")));
        out.push(kind(a.send_to(b"x", "/no/such/socket")));
        paths
            .iter()
            .for_each(|path| std::fs::remove_file(path).unwrap());
        (out, read)
    });
}

/// Nothing that the sender itself has sent is unread.
#[test]
fn a_datagram_waits_for_a_queue_that_others_have_filled() {
    same(|on| {
        let path = socket_path();
        let receiver = UnixDatagram::bind(&path).unwrap();
        let others = UnixDatagram::unbound().unwrap();
        others.set_nonblocking(true).unwrap();
        let fits = (0..).take_while(|_| others.send_to(b"x", &path).is_ok());
        let filled = fits.count();
        let (to, (mut waits, begins)) = (path.clone(), io::pipe().unwrap());
        let sender = on.go(move || {
            let sender = UnixDatagram::unbound().unwrap();
            drop(begins);
            kind(sender.send_to(b"last", to))
        });
        waits.read_to_end(&mut Vec::new()).unwrap();
        let mut buffer = [0; 8];
        let received = (0..=filled).map(|_| receiver.recv(&mut buffer).unwrap());
        let last = received.last();
        std::fs::remove_file(&path).unwrap();
        (last, sender.join())
    });
}

#[test]
fn pipes() {
    same(|on| {
        let (mut from, to) = io::pipe().unwrap();
        let writer = on.go(move || {
            let data = pattern(300_000);
            let two = [IoSlice::new(&data), IoSlice::new(b"tail")];
            let first = kind((&to).write_vectored(&two));
            (first.is_ok(), kind((&to).write_all(b"end")))
        });
        let mut all = Vec::new();
        let got = kind(from.read_to_end(&mut all)).map(|n| n >= 3);
        let ended = all.ends_with(b"end");
        let (r, w) = io::pipe().unwrap();
        drop(r);
        let broken = kind((&w).write(b"x"));
        (got, ended, writer.join(), broken, kind(from.read(&mut [0])))
    });
}

#[test]
fn copying_between_kinds() {
    same(|on| {
        let (a, b) = tcp_pair();
        let (mut r, w) = io::pipe().unwrap();
        let (c, d) = UnixStream::pair().unwrap();
        let one = on.go(move || io::copy(&mut &b, &mut &w).unwrap());
        let two = on.go(move || io::copy(&mut r, &mut &c).unwrap());
        let reader = on.go(move || {
            let mut all = Vec::new();
            (&d).read_to_end(&mut all).unwrap();
            all
        });
        (&a).write_all(&pattern(2 << 20)).unwrap();
        drop(a);
        (one.join(), two.join(), reader.join())
    });
    let _ = On::Threads;
}
