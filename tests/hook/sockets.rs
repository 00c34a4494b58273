//! Sockets: unmodified `std::net` in coroutines does what it does on threads.

use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hook_common::{
    On, code, flags, in_coroutines, libc_flags, pattern, read, recv, said, same, tcp_pair,
};

const MOMENT: Duration = Duration::from_millis(30);

/// Answers everything with itself until the end; says how much that was.
fn echo(mut stream: impl Read + Write) -> usize {
    let mut buf = [0; 1024];
    let mut total = 0;
    loop {
        let n = stream.read(&mut buf).unwrap();
        if n == 0 {
            return total;
        }
        stream.write_all(&buf[..n]).unwrap();
        total += n;
    }
}

/// Sends messages of several sizes and takes each back.
fn converse(mut stream: impl Read + Write) {
    for size in [1, 64, 1023, 1024, 1025, 2048, 5000] {
        let message = pattern(size);
        stream.write_all(&message).unwrap();
        let mut back = vec![0; size];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, message);
    }
}

#[test]
fn tcp_echo() {
    same(|on| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = on.go(move || echo(listener.accept().unwrap().0));
        let stream = TcpStream::connect(addr).unwrap();
        converse(&stream);
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(code((&stream).read(&mut [0; 9])), Ok(0));
        server.join()
    });
}

#[test]
fn tcp_over_ipv6_and_by_timeout() {
    same(|on| {
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            return 0;
        };
        let addr = listener.local_addr().unwrap();
        let server = on.go(move || echo(listener.accept().unwrap().0));
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(60)).unwrap();
        converse(&stream);
        drop(stream);
        server.join()
    });
}

#[test]
fn unix_echo() {
    same(|on| {
        let dir = std::env::temp_dir().join(format!("crore-echo-{}-{on:?}", std::process::id()));
        let listener = UnixListener::bind(&dir).unwrap();
        let server = on.go(move || echo(listener.accept().unwrap().0));
        let stream = UnixStream::connect(&dir).unwrap();
        std::fs::remove_file(&dir).unwrap();
        converse(&stream);
        drop(stream);
        server.join()
    });
}

#[test]
fn datagrams_keep_their_borders() {
    same(|on| {
        let (server, client) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let to = server.local_addr().unwrap();
        let echo = on.go(move || {
            let mut sizes = Vec::new();
            for _ in 0..5 {
                let mut buf = [0; 2000];
                let (n, from) = server.recv_from(&mut buf).unwrap();
                server.send_to(&buf[..n], from).unwrap();
                sizes.push(n);
            }
            sizes
        });
        for size in [0, 1, 100, 1500, 0] {
            client.send_to(&pattern(size), to).unwrap();
            let mut buf = [0; 2000];
            let (n, from) = client.recv_from(&mut buf).unwrap();
            assert_eq!((&buf[..n], from), (&pattern(size)[..], to));
        }
        let (a, b) = UnixDatagram::pair().unwrap();
        let other = on.go(move || {
            let mut buf = [0; 4];
            (b.recv(&mut buf).unwrap(), b.recv(&mut buf).unwrap())
        });
        a.send(b"too long for four").unwrap();
        a.send(b"ok").unwrap();
        (echo.join(), other.join())
    });
}

#[test]
fn five_hundred_connections_at_once() {
    same(|on| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = on.go(move || {
            let all: Vec<_> = (0..500)
                .map(|_| {
                    let stream = listener.accept().unwrap().0;
                    on.go(move || echo(stream))
                })
                .collect();
            all.into_iter().map(|one| one.join()).sum::<usize>()
        });
        let clients: Vec<_> = (0..500)
            .map(|i: u32| {
                on.go(move || {
                    let mut stream = TcpStream::connect(addr).unwrap();
                    for round in 0..10 {
                        let message = [i.to_le_bytes(), u32::to_le_bytes(round)].concat();
                        stream.write_all(&message).unwrap();
                        let mut back = [0; 8];
                        stream.read_exact(&mut back).unwrap();
                        assert_eq!(back[..], message[..]);
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|one| one.join());
        server.join()
    });
}

#[test]
fn timeouts_of_the_user_hold() {
    same(|_| {
        let (a, b) = tcp_pair();
        a.set_read_timeout(Some(MOMENT)).unwrap();
        let mut said = Vec::new();
        for _ in 0..2 {
            let begin = Instant::now();
            said.push(code((&a).read(&mut [0; 8])));
            assert!(begin.elapsed() >= MOMENT, "{:?}", begin.elapsed());
        }
        // In time.
        (&b).write_all(b"x").unwrap();
        said.push(code((&a).read(&mut [0; 8])));
        // Writing: first what fits, then the error.
        a.set_write_timeout(Some(MOMENT)).unwrap();
        let chunk = vec![0; 1 << 20];
        let error = loop {
            let begin = Instant::now();
            match code((&a).write(&chunk)) {
                Ok(n) if n > 0 => {}
                other => {
                    assert!(begin.elapsed() >= MOMENT);
                    break other;
                }
            }
        };
        said.push(error);
        // A time-out that is taken back is gone.
        a.set_read_timeout(None).unwrap();
        let (c, d) = (a, b);
        let late = std::thread::spawn(move || {
            std::thread::sleep(MOMENT * 2);
            (&d).write_all(b"yz").unwrap();
            d
        });
        said.push(code((&c).read(&mut [0; 8])));
        drop(late);
        said
    });
}

#[test]
fn a_listener_times_out_too() {
    same(|_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let time = libc::timeval {
            tv_sec: 0,
            tv_usec: 30_000,
        };
        // SAFETY: a valid time of that length.
        let set = unsafe {
            libc::setsockopt(
                listener.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const time).cast(),
                size_of_val(&time) as u32,
            )
        };
        assert_eq!(set, 0);
        let begin = Instant::now();
        let said = code(listener.accept().map(drop));
        assert!(begin.elapsed() >= MOMENT);
        said
    });
}

/// An address that is taken, so that nobody else can listen there.
fn refusing() -> (socket2::Socket, std::net::SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn refused_and_unreachable_peers() {
    same(|_| {
        let (_taken, gone) = refusing();
        let by_timeout = TcpStream::connect_timeout(&gone, Duration::from_secs(60));
        let nowhere = UnixStream::connect("/nonexistent/crore");
        (
            code(TcpStream::connect(gone).map(drop)),
            code(by_timeout.map(drop)),
            code(nowhere.map(drop)),
        )
    });
}

/// A listener that nobody can reach any more: its queue is full.
fn full_listener() -> (OwnedFd, std::net::SocketAddr, Vec<OwnedFd>) {
    // SAFETY: fresh descriptors, valid arguments throughout.
    unsafe {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(libc::listen(listener.as_raw_fd(), 0), 0);
        let addr = listener.local_addr().unwrap();
        let clients = (0..8)
            .map(|_| {
                let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
                let (name, len) = c_addr(addr);
                libc::connect(fd, (&raw const name).cast(), len);
                OwnedFd::from_raw_fd(fd)
            })
            .collect();
        (OwnedFd::from(listener), addr, clients)
    }
}

fn c_addr(addr: std::net::SocketAddr) -> (libc::sockaddr_in, u32) {
    let std::net::SocketAddr::V4(v4) = addr else {
        panic!("an IPv4 address")
    };
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: v4.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(v4.ip().octets()),
        },
        sin_zero: [0; 8],
    };
    (name, size_of::<libc::sockaddr_in>() as u32)
}

#[test]
fn connect_gives_up_in_time() {
    same(|_| {
        let (_listener, addr, _clients) = full_listener();
        let begin = Instant::now();
        let by_std = TcpStream::connect_timeout(&addr, MOMENT)
            .unwrap_err()
            .kind();
        assert!(begin.elapsed() >= MOMENT);
        // SAFETY: a fresh socket, valid arguments.
        let by_option = unsafe {
            let socket = OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0));
            let time = libc::timeval {
                tv_sec: 0,
                tv_usec: 30_000,
            };
            let len = size_of_val(&time) as u32;
            let value = (&raw const time).cast();
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDTIMEO,
                value,
                len,
            );
            let (name, len) = c_addr(addr);
            let begin = Instant::now();
            let answer =
                said(libc::connect(socket.as_raw_fd(), (&raw const name).cast(), len) as isize);
            assert!(begin.elapsed() >= MOMENT);
            assert_eq!(flags(&socket) & i64::from(libc::O_NONBLOCK), 0);
            answer
        };
        (by_std, by_option)
    });
}

#[test]
fn a_full_unix_backlog_makes_connect_wait() {
    same(|on| {
        let path = std::env::temp_dir().join(format!("crore-full-{}-{on:?}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        // SAFETY: a listener of ours.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let clients: Vec<_> = (0..4)
            .map(|i: u8| {
                let path = path.clone();
                on.go(move || UnixStream::connect(path).unwrap().write_all(&[i]).unwrap())
            })
            .collect();
        let mut got: Vec<u8> = (0..4)
            .map(|_| {
                let mut byte = [0];
                listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
                byte[0]
            })
            .collect();
        clients.into_iter().for_each(|one| one.join());
        std::fs::remove_file(&path).unwrap();
        got.sort_unstable();
        got
    });
}

#[test]
fn nonblocking_descriptors_get_their_eagain() {
    same(|on| {
        let (a, b) = tcp_pair();
        let mut buf = [0; 8];
        // Drained and known to block, then made non-blocking.
        let peer = on.go(move || {
            (&b).write_all(b"abc").unwrap();
            b
        });
        let mut said = vec![code((&a).read(&mut buf))];
        let b = peer.join();
        let peer = on.go(move || {
            (&b).write_all(b"de").unwrap();
            b
        });
        said.push(code((&a).read(&mut buf)));
        let b = peer.join();
        a.set_nonblocking(true).unwrap();
        said.push(code((&a).read(&mut buf)));
        // Back again, then through a duplicate.
        a.set_nonblocking(false).unwrap();
        let peer = on.go(move || {
            (&b).write_all(b"f").unwrap();
            b
        });
        said.push(code((&a).read(&mut buf)));
        a.try_clone().unwrap().set_nonblocking(true).unwrap();
        said.push(code((&a).read(&mut buf)));
        // By fcntl.
        let own = flags(&a);
        // SAFETY: F_SETFL takes no pointer.
        unsafe { libc::fcntl(a.as_raw_fd(), libc::F_SETFL, own as i32 & !libc::O_NONBLOCK) };
        said.push(recv(a.as_raw_fd(), &mut buf, libc::MSG_DONTWAIT));
        // SAFETY: as above.
        unsafe { libc::fcntl(a.as_raw_fd(), libc::F_SETFL, own as i32) };
        said.push(read(a.as_raw_fd(), &mut buf));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        said.push(code(listener.accept().map(|_| 0)));
        drop(peer);
        said
    });
}

#[test]
fn flags_never_change() {
    same(|on| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let before = libc_flags(&listener);
        let watched = listener.try_clone().unwrap();
        let server = on.go(move || {
            let stream = listener.accept().unwrap().0;
            let clone = stream.try_clone().unwrap();
            let reader = on.go(move || (&clone).read(&mut [0; 8]).unwrap());
            // The reader waits now or soon; either way the flags are the user's.
            let during = flags(&stream);
            (&stream).write_all(b"go").unwrap();
            (reader.join(), during, flags(&stream))
        });
        // A listener with a duplicate is the one thing whose flags the kernel
        // knows otherwise; libc says what the user set.
        let during = libc_flags(&watched);
        let stream = TcpStream::connect(addr).unwrap();
        (&stream).read_exact(&mut [0; 2]).unwrap();
        let mine = flags(&stream);
        (&stream).write_all(b"12345678").unwrap();
        let (n, theirs, after) = server.join();
        assert_eq!((during, theirs), (before, after));
        (n, before, mine, after)
    });
}

#[test]
fn a_blocking_send_sends_all() {
    same(|on| {
        let (a, b) = tcp_pair();
        let data = pattern(6 << 20);
        let expect = data.clone();
        let reader = on.go(move || {
            let (mut got, mut buf) = (Vec::new(), vec![0; 9000]);
            loop {
                match (&b).read(&mut buf).unwrap() {
                    0 => break,
                    n => got.extend_from_slice(&buf[..n]),
                }
            }
            got
        });
        let half = data.len() / 2;
        let one = (&a).write(&data[..half]).unwrap();
        // The rest in pieces of odd sizes, some empty.
        let mut pieces = Vec::new();
        let mut at = half;
        for size in (0..).map(|i: usize| i * 7919 % 60_000) {
            let end = (at + size).min(data.len());
            pieces.push(IoSlice::new(&data[at..end]));
            at = end;
            if at == data.len() {
                break;
            }
        }
        assert!(pieces.len() < 1024);
        let many = (&a).write_vectored(&pieces).unwrap();
        drop(a);
        assert!(reader.join() == expect, "bytes were lost or moved");
        (one, many)
    });
}

#[test]
fn sendmsg_sends_all_on_unix_sockets() {
    same(|on| {
        let (a, b) = UnixStream::pair().unwrap();
        let data = pattern(2 << 20);
        let expect = data.clone();
        let reader = on.go(move || {
            let mut got = Vec::new();
            (&b).read_to_end(&mut got).unwrap();
            got
        });
        let (front, back) = data.split_at(1_234_567);
        let pieces = [IoSlice::new(front), IoSlice::new(&[]), IoSlice::new(back)];
        // SAFETY: an IoSlice is an iovec; the header points at three of them.
        let n = unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_iov = pieces.as_ptr().cast_mut().cast();
            header.msg_iovlen = 3;
            said(libc::sendmsg(a.as_raw_fd(), &raw const header, 0))
        };
        drop(a);
        assert!(reader.join() == expect, "bytes were lost or moved");
        n
    });
}

#[test]
fn short_data_and_the_end_arrive_both() {
    same(|on| {
        let mut said = Vec::new();
        for round in 0..50 {
            let (a, b) = tcp_pair();
            let peer = on.go(move || {
                (&b).write_all(b"last words").unwrap();
                drop(b);
            });
            if round % 2 == 0 {
                peer.join();
            } else {
                drop(peer);
            }
            let mut buf = [0; 100];
            said.push(code((&a).read(&mut buf)));
            said.push(code((&a).read(&mut buf)));
            said.push(code((&a).read(&mut buf)));
        }
        said
    });
}

#[test]
fn a_reset_by_the_peer_is_an_error() {
    same(|on| {
        let (a, b) = tcp_pair();
        let reader = on.go(move || {
            let first = code((&a).read(&mut [0; 8]));
            let then = code((&a).write(b"x"));
            (first, then, code((&a).read(&mut [0; 8])))
        });
        let hard = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let (value, len) = ((&raw const hard).cast(), size_of_val(&hard) as u32);
        // SAFETY: a valid value of that length.
        unsafe { libc::setsockopt(b.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, len) };
        drop(b);
        reader.join()
    });
}

#[test]
fn zero_bytes() {
    same(|_| {
        let (a, b) = tcp_pair();
        (&b).write_all(b"x").unwrap();
        a.peek(&mut [0; 1]).unwrap();
        let some = (code((&a).write(&[])), code((&a).read(&mut [])));
        (
            some,
            read(a.as_raw_fd(), &mut []),
            code((&a).read(&mut [0; 4])),
            code((&a).write(&[])),
        )
    });
}

#[test]
fn peek_takes_nothing_and_waitall_waits() {
    same(|on| {
        let (a, b) = tcp_pair();
        let writer = on.go(move || {
            for part in [&b"ab"[..], b"cde", b"f", b"gh"] {
                (&b).write_all(part).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
            b
        });
        let mut buf = [0; 6];
        let mut said = vec![recv(a.as_raw_fd(), &mut buf, libc::MSG_WAITALL)];
        assert_eq!(&buf, b"abcdef");
        let mut two = [0; 2];
        said.push(recv(a.as_raw_fd(), &mut two[..1], libc::MSG_PEEK));
        let b = writer.join();
        said.push(recv(a.as_raw_fd(), &mut two, libc::MSG_PEEK));
        said.push(recv(a.as_raw_fd(), &mut buf, libc::MSG_PEEK));
        said.push(recv(a.as_raw_fd(), &mut buf, 0));
        said.push(recv(a.as_raw_fd(), &mut buf, libc::MSG_OOB));
        said.push(recv(a.as_raw_fd(), &mut buf, libc::MSG_ERRQUEUE));
        drop(b);
        said.push(recv(a.as_raw_fd(), &mut buf, libc::MSG_WAITALL));
        said
    });
}

#[test]
fn accept_refuses_what_does_not_listen() {
    same(|_| {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (a, _b) = tcp_pair();
        let (r, _w) = std::io::pipe().unwrap();
        // SAFETY: no address is asked for.
        [udp.as_raw_fd(), a.as_raw_fd(), r.as_raw_fd(), -1].map(|fd| unsafe {
            said(libc::accept(fd, std::ptr::null_mut(), std::ptr::null_mut()) as isize)
        })
    });
}

#[test]
fn several_wait_on_one_listener() {
    same(|on| {
        let listener = std::sync::Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let addr = listener.local_addr().unwrap();
        let servers: Vec<_> = (0..4)
            .map(|_| {
                let listener = listener.clone();
                on.go(move || {
                    (0..5)
                        .map(|_| echo(listener.accept().unwrap().0))
                        .sum::<usize>()
                })
            })
            .collect();
        let clients: Vec<_> = (0..20)
            .map(|_| on.go(move || converse(TcpStream::connect(addr).unwrap())))
            .collect();
        clients.into_iter().for_each(|one| one.join());
        servers.into_iter().map(|one| one.join()).sum::<usize>()
    });
}

#[test]
fn reader_and_writer_share_a_stream() {
    same(|on| {
        let (a, b) = tcp_pair();
        let echo = on.go(move || echo(&b));
        let writing = a.try_clone().unwrap();
        let writer = on.go(move || {
            (&writing).write_all(&pattern(1 << 20)).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        (&a).read_to_end(&mut got).unwrap();
        writer.join();
        assert!(got == pattern(1 << 20));
        echo.join()
    });
}

#[test]
fn errno_survives_other_coroutines() {
    in_coroutines(|on| {
        let (a, b) = tcp_pair();
        let other = on.go(move || {
            // Fails, and so changes the thread's errno.
            assert_eq!(read(-1, &mut [0; 1]), Err(libc::EBADF));
            (&b).write_all(b"x").unwrap();
        });
        // SAFETY: libc's own thread-local.
        unsafe { *libc::__errno_location() = 77 };
        let n = recv(a.as_raw_fd(), &mut [0; 4], 0);
        // SAFETY: as above.
        let kept = unsafe { *libc::__errno_location() };
        other.join();
        assert_eq!((n, kept), (Ok(1), 77));
    });
}

#[test]
fn the_self_test_is_content() {
    assert_eq!(crore::hook::status(), crore::hook::Status::Active);
    assert!(crore::hook::enabled());
    let _ = On::Threads;
}

#[test]
fn a_change_of_flags_that_no_hook_saw_is_found_at_the_next_event() {
    in_coroutines(|on| {
        let (a, b) = tcp_pair();
        let fd = a.as_raw_fd();
        let (tell, told) = std::sync::mpsc::channel();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let tell = tell.clone();
                on.go(move || {
                    let said = [read(fd, &mut [0; 8]), read(fd, &mut [0; 8])];
                    tell.send(said).unwrap();
                })
            })
            .collect();
        crore::yield_now();
        // SAFETY: no pointers; no hook sees this.
        let set = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFL, libc::O_NONBLOCK) };
        assert_eq!(set, 0);
        (&b).write_all(b"1").unwrap();
        // Both wake. One finds that nobody is to wait any more.
        let late = loop {
            match told.try_recv() {
                Ok(said) => break said,
                Err(_) => crore::yield_now(),
            }
        };
        assert_eq!(late, [Err(libc::EAGAIN); 2]);
        // The other took the byte and waits as before, until the next event.
        (&b).write_all(b"22").unwrap();
        readers.into_iter().for_each(|one| one.join());
        assert_eq!(told.recv().unwrap(), [Ok(1), Ok(2)]);
    });
}

/// A limit that is set on a socket which has waited without one.
#[test]
fn a_limit_counts_whenever_it_is_set() {
    same(|on| {
        let (a, mut b) = UnixStream::pair().unwrap();
        let a = Arc::new(a);
        let theirs = Arc::clone(&a);
        let writer = on.go(move || (&*theirs).write_all(&vec![0; 1 << 20]).unwrap());
        b.read_exact(&mut vec![0; 1 << 20]).unwrap();
        writer.join();
        let theirs = Arc::clone(&a);
        let reader = on.go(move || (&*theirs).read_exact(&mut [0; 2]).unwrap());
        std::thread::sleep(MOMENT);
        b.write_all(b"ab").unwrap();
        reader.join();
        // It has waited in both directions, so that it is known to have no limits. One
        // is set at a time: the other makes all be asked again.
        a.set_write_timeout(Some(MOMENT)).unwrap();
        let begin = Instant::now();
        let written = code((&*a).write_all(&vec![0; 1 << 20]));
        assert!(begin.elapsed() >= MOMENT);
        a.set_read_timeout(Some(MOMENT)).unwrap();
        let begin = Instant::now();
        let read = code((&*a).read(&mut [0]));
        assert!(begin.elapsed() >= MOMENT);
        (written, read)
    });
}

/// A large write of which the peer takes a part and resets: it ends short, and the
/// error is the next one's.
#[test]
fn a_reset_in_the_midst_of_a_write_is_for_the_next_one() {
    same(|on| {
        let (mut a, mut b) = tcp_pair();
        let large = 64 << 20;
        let writer = on.go(move || {
            let first = a.write(&vec![0; large]).unwrap();
            (first > 0 && first < large, code(a.write(b"x")))
        });
        b.read_exact(&mut [0; 1 << 16]).unwrap();
        // What lies there unread makes it a reset.
        drop(b);
        writer.join()
    });
}
