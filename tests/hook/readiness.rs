//! What the kernel says of readiness: ends of sockets of messages, full error queues,
//! urgent data.

use std::ffi::c_int;
use std::io::Read;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::hook_common::{On, pattern, read, recv, said, same, tcp_pair};

/// A pair of Unix sockets.
fn unix_pair(kind: c_int) -> (OwnedFd, OwnedFd) {
    let mut pair = [0; 2];
    // SAFETY: a place for two descriptors, which are ours.
    unsafe {
        assert_eq!(
            libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()),
            0
        );
        (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1]))
    }
}

/// Sockets of messages, each with one that can send to it.
fn message_sockets() -> Vec<(OwnedFd, OwnedFd)> {
    let udp = |connected: bool| {
        let [a, b] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        b.connect(a.local_addr().unwrap()).unwrap();
        if connected {
            a.connect(b.local_addr().unwrap()).unwrap();
        }
        (a.into(), b.into())
    };
    vec![
        udp(false),
        udp(true),
        unix_pair(libc::SOCK_DGRAM),
        unix_pair(libc::SOCK_SEQPACKET),
    ]
}

fn recvfrom(fd: RawFd, buf: &mut [u8]) -> Result<usize, i32> {
    let mut address = [0_u8; 128];
    let mut len = 128;
    let place = address.as_mut_ptr().cast();
    // SAFETY: valid places.
    said(unsafe { libc::recvfrom(fd, buf.as_mut_ptr().cast(), buf.len(), 0, place, &mut len) })
}

/// A header around one buffer, which is to outlive it.
fn header(buffer: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: zeros are a valid header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = buffer;
    header.msg_iovlen = 1;
    header
}

fn vector(buf: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    }
}

fn recvmsg(fd: RawFd, buf: &mut [u8]) -> Result<usize, i32> {
    let mut vector = vector(buf);
    let mut header = header(&mut vector);
    // SAFETY: a valid header.
    said(unsafe { libc::recvmsg(fd, &mut header, 0) })
}

/// One message.
fn recvmmsg(fd: RawFd, buf: &mut [u8]) -> Result<usize, i32> {
    let mut vector = vector(buf);
    let mut message = libc::mmsghdr {
        msg_hdr: header(&mut vector),
        msg_len: 99,
    };
    // SAFETY: a valid message; no time limit.
    let got = unsafe { libc::recvmmsg(fd, &mut message, 1, 0, std::ptr::null_mut()) };
    said(got as isize).map(|_| message.msg_len as usize)
}

fn readv(fd: RawFd, buf: &mut [u8]) -> Result<usize, i32> {
    // SAFETY: a valid buffer.
    said(unsafe { libc::readv(fd, &vector(buf), 1) })
}

type Receive = fn(RawFd, &mut [u8]) -> Result<usize, i32>;

const RECEIVES: [Receive; 8] = [
    read,
    readv,
    |fd, buf| recv(fd, buf, 0),
    |fd, buf| recv(fd, buf, libc::MSG_PEEK),
    |fd, buf| recv(fd, buf, libc::MSG_WAITALL),
    recvfrom,
    recvmsg,
    recvmmsg,
];

/// Shuts down by a duplicate, as another thread or process may.
fn shutdown(socket: &OwnedFd, how: c_int) {
    let other = socket.try_clone().unwrap();
    // SAFETY: no pointers. (It fails on what is not connected, and has an effect.)
    std::thread::spawn(move || unsafe { libc::shutdown(other.as_raw_fd(), how) })
        .join()
        .unwrap();
}

/// Twice in a row, as the shutdown goes on to hold. What is still waited for after
/// the shutdown comes, two bytes long.
fn receive_shut(
    on: On,
    receive: Receive,
    how: c_int,
    before: bool,
) -> Vec<Vec<Result<usize, i32>>> {
    let sockets = message_sockets().into_iter();
    let started: Vec<_> = sockets
        .map(|(socket, peer)| {
            if before {
                shutdown(&socket, how);
            }
            let fd = socket.as_raw_fd();
            let receiver = on.go(move || vec![receive(fd, &mut [0; 8]), receive(fd, &mut [0; 8])]);
            (receiver, socket, peer)
        })
        .collect();
    if on == On::Coroutines {
        // All of them wait.
        crore::yield_now();
    }
    let ended = started.into_iter().map(|(receiver, socket, peer)| {
        if !before {
            shutdown(&socket, how);
        }
        if how == libc::SHUT_WR {
            for _ in 0..2 {
                // SAFETY: two bytes.
                unsafe { libc::send(peer.as_raw_fd(), b"hi".as_ptr().cast(), 2, 0) };
            }
        }
        receiver.join()
    });
    ended.collect()
}

#[test]
fn the_shutdown_of_a_socket_of_messages_ends_its_waits() {
    same(|on| {
        let mut said = Vec::new();
        for receive in RECEIVES {
            for how in [libc::SHUT_RD, libc::SHUT_WR, libc::SHUT_RDWR] {
                for before in [false, true] {
                    said.push(receive_shut(on, receive, how, before));
                }
            }
        }
        said
    });
}

#[test]
fn what_is_shut_still_gives_what_came_before() {
    same(|on| {
        let sockets = message_sockets().into_iter();
        let all = sockets.map(|(socket, peer)| {
            // SAFETY: three bytes.
            let sent = said(unsafe { libc::send(peer.as_raw_fd(), b"abc".as_ptr().cast(), 3, 0) });
            shutdown(&socket, libc::SHUT_RD);
            let fd = socket.as_raw_fd();
            // One that may not wait says so.
            let reads =
                on.go(move || [0, 0, libc::MSG_DONTWAIT].map(|flags| recv(fd, &mut [0; 8], flags)));
            (sent, reads.join())
        });
        all.collect::<Vec<_>>()
    });
}

#[test]
fn a_listener_is_not_read() {
    same(|on| {
        let path = std::env::temp_dir().join(format!("crore-unread-{}-{on:?}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let fd = listener.as_raw_fd();
        let mut pipe = [0; 2];
        // SAFETY: a place for two descriptors.
        unsafe { libc::pipe(pipe.as_mut_ptr()) };
        // SAFETY: made just now.
        let [_reader, writer] = pipe.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        on.go(move || {
            [
                read(fd, &mut [0; 8]),
                readv(fd, &mut [0; 8]),
                splice(fd, writer.as_raw_fd()),
            ]
        })
        .join()
    });
}

fn splice(from: RawFd, pipe: RawFd) -> Result<usize, i32> {
    let here = std::ptr::null_mut();
    // SAFETY: no places.
    said(unsafe { libc::splice(from, here, pipe, here, 8, 0) })
}

/// A TCP connection whose first half is told of everything that it sends, in its
/// error queue, where it stays.
fn told_of_sends() -> (TcpStream, TcpStream) {
    let (a, b) = tcp_pair();
    let stamps = libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_TX_ACK;
    set(&a, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, stamps as c_int);
    set(&a, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1);
    (a, b)
}

fn set(socket: &impl AsRawFd, level: c_int, name: c_int, value: c_int) {
    let place = (&raw const value).cast();
    // SAFETY: four bytes.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, place, 4) };
    assert_eq!(said(set as isize), Ok(0));
}

/// What `poll` says of a socket now, of everything.
fn polled(socket: &impl AsRawFd) -> i16 {
    let mut entry = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN | libc::POLLOUT | libc::POLLPRI,
        revents: 0,
    };
    // SAFETY: one entry.
    unsafe { libc::poll(&mut entry, 1, 0) };
    entry.revents
}

type Send = fn(RawFd, &[u8]) -> Result<usize, i32>;

fn sendmsg(fd: RawFd, bytes: &[u8]) -> Result<usize, i32> {
    let mut vector = vector(&mut []);
    (vector.iov_base, vector.iov_len) = (bytes.as_ptr().cast_mut().cast(), bytes.len());
    // SAFETY: a valid message.
    said(unsafe { libc::sendmsg(fd, &header(&mut vector), 0) })
}

/// In one message.
fn sendmmsg(fd: RawFd, bytes: &[u8]) -> Result<usize, i32> {
    let mut vector = vector(&mut []);
    (vector.iov_base, vector.iov_len) = (bytes.as_ptr().cast_mut().cast(), bytes.len());
    let mut message = libc::mmsghdr {
        msg_hdr: header(&mut vector),
        msg_len: 0,
    };
    // SAFETY: a valid message.
    let sent = unsafe { libc::sendmmsg(fd, &mut message, 1, 0) };
    said(sent as isize).map(|_| message.msg_len as usize)
}

fn send(fd: RawFd, bytes: &[u8], flags: c_int) -> Result<usize, i32> {
    // SAFETY: the bytes.
    said(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) })
}

const SENDS: [Send; 5] = [
    |fd, bytes| send(fd, bytes, libc::MSG_ZEROCOPY),
    |fd, bytes| send(fd, bytes, 0),
    // SAFETY: the bytes.
    |fd, bytes| said(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) }),
    sendmsg,
    sendmmsg,
];

#[test]
fn a_full_error_queue_shortens_no_send() {
    same(|on| {
        let (a, mut b) = told_of_sends();
        let reader = on.go(move || {
            let mut bytes = Vec::new();
            b.read_to_end(&mut bytes).unwrap();
            bytes == pattern(PIECE).repeat(SENDS.len())
        });
        let sender = on.go(move || {
            let bytes = pattern(PIECE);
            let sent = SENDS.map(|send| send(a.as_raw_fd(), &bytes));
            // The queue was there, and still is.
            (sent, polled(&a) & libc::POLLERR)
        });
        (sender.join(), reader.join())
    });
}

/// More than the buffers of a connection take.
const PIECE: usize = 8 << 20;

#[test]
fn a_full_error_queue_ends_no_wait_and_costs_none() {
    same(|on| {
        let (a, b) = told_of_sends();
        send(a.as_raw_fd(), b"x", 0).unwrap();
        while polled(&a) & libc::POLLERR == 0 {
            std::thread::yield_now();
        }
        let mut pipe = [0; 2];
        // SAFETY: a place for two descriptors.
        unsafe { libc::pipe(pipe.as_mut_ptr()) };
        // SAFETY: made just now.
        let [_reader, writer] = pipe.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let fd = a.as_raw_fd();
        let waiters = [
            on.go(move || splice(fd, writer.as_raw_fd())),
            on.go(move || recv(fd, &mut [0; 1], 0)),
            on.go(move || read(fd, &mut [0; 1])),
        ];
        let before = cpu();
        std::thread::sleep(Duration::from_millis(200));
        let idle = cpu() - before < Duration::from_millis(50);
        send(b.as_raw_fd(), &[1; 10], 0).unwrap();
        let got: usize = waiters.map(|one| one.join().unwrap()).iter().sum();
        (idle, got >= 3)
    });
}

/// What this thread has used.
fn cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place for a time.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_full_error_queue_does_not_end_a_batch() {
    same(|on| {
        let a = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (b, gone) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        set(&a, libc::SOL_IP, libc::IP_RECVERR, 1);
        let nobody = gone.local_addr().unwrap();
        drop(gone);
        a.send_to(b"x", nobody).unwrap();
        while polled(&a) & libc::POLLERR == 0 {
            std::thread::yield_now();
        }
        // The error itself is taken, what is queued stays.
        let error = a.take_error().unwrap().map(|error| error.kind());
        let (to, fd) = (a.local_addr().unwrap(), a.as_raw_fd());
        let receiver = on.go(move || {
            let mut bytes = [[0_u8; 2]; 2];
            let mut vectors = bytes.each_mut().map(|bytes| vector(bytes));
            let mut messages = vectors.each_mut().map(|vector| libc::mmsghdr {
                msg_hdr: header(vector),
                msg_len: 0,
            });
            // SAFETY: two valid messages, no time limit.
            let got =
                unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), 2, 0, std::ptr::null_mut()) };
            (said(got as isize), bytes)
        });
        b.send_to(b"ab", to).unwrap();
        // It is taken, and the other waited for.
        while polled(&a) & libc::POLLIN != 0 {
            std::thread::yield_now();
        }
        b.send_to(b"cd", to).unwrap();
        let queued = polled(&a) & libc::POLLERR;
        (error, receiver.join(), queued)
    });
}
