//! The rows of the hooks' table about waiting: batches of messages, `select`,
//! foreign epolls, and descriptors of every kind.

use std::ffi::c_int;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::common::in_child;
use crate::hook_common::{On, in_coroutines, pattern, read, said, same, tcp_pair};

fn udp_pair() -> (UdpSocket, UdpSocket) {
    let [a, b] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    a.connect(b.local_addr().unwrap()).unwrap();
    b.connect(a.local_addr().unwrap()).unwrap();
    (a, b)
}

/// Messages around buffers, for one call.
fn messages(buffers: &mut [Vec<u8>]) -> (Vec<libc::iovec>, Vec<libc::mmsghdr>) {
    let mut vectors: Vec<_> = buffers
        .iter_mut()
        .map(|one| libc::iovec {
            iov_base: one.as_mut_ptr().cast(),
            iov_len: one.len(),
        })
        .collect();
    let headers = vectors
        .iter_mut()
        .map(|one| {
            // SAFETY: zeros are a valid header.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = one;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    (vectors, headers)
}

#[test]
fn batches_of_datagrams() {
    same(|on| {
        let (a, b) = udp_pair();
        let receiver = on.go(move || {
            let mut out = Vec::new();
            for (count, flags) in [(3, 0), (3, libc::MSG_WAITFORONE), (0, 0), (2, 0)] {
                let mut buffers = vec![vec![0; 8]; 3];
                let (_vectors, mut headers) = messages(&mut buffers);
                // SAFETY: three messages of which `count` are used.
                let got = said(unsafe {
                    libc::recvmmsg(
                        b.as_raw_fd(),
                        headers.as_mut_ptr(),
                        count,
                        flags,
                        std::ptr::null_mut(),
                    )
                } as isize);
                let lens: Vec<_> = headers.iter().map(|one| one.msg_len).collect();
                // How many come with the first is anybody's guess.
                out.push((
                    got.map(|n| if flags == 0 { n } else { 1 }),
                    flags == 0,
                    buffers.len(),
                    lens.len(),
                ));
                if flags != 0 {
                    let rest = 3 - got.unwrap();
                    for _ in 0..rest {
                        b.recv(&mut [0; 8]).unwrap();
                    }
                }
            }
            let mut headers = [];
            // SAFETY: no messages.
            out.push((
                said(
                    unsafe { libc::recvmmsg(-1, headers.as_mut_ptr(), 0, 0, std::ptr::null_mut()) }
                        as isize,
                ),
                true,
                0,
                0,
            ));
            out
        });
        let mut sent = Vec::new();
        for count in [3, 3, 2] {
            let mut buffers: Vec<_> = (1..=count).map(pattern).collect();
            let (_vectors, mut headers) = messages(&mut buffers);
            // SAFETY: `count` messages.
            sent.push(said(unsafe {
                libc::sendmmsg(a.as_raw_fd(), headers.as_mut_ptr(), count as u32, 0)
            } as isize));
            sent.extend(headers.iter().map(|one| Ok(one.msg_len as usize)));
        }
        (receiver.join(), sent)
    });
}

#[test]
fn a_batch_on_a_stream_is_sent_whole() {
    same(|on| {
        let (a, b) = UnixStream::pair().unwrap();
        let reader = on.go(move || {
            let mut all = Vec::new();
            (&b).read_to_end(&mut all).unwrap();
            all
        });
        let mut buffers = vec![pattern(1_500_000), pattern(10), pattern(700_000)];
        let (_vectors, mut headers) = messages(&mut buffers);
        // SAFETY: three messages.
        let sent = unsafe { libc::sendmmsg(a.as_raw_fd(), headers.as_mut_ptr(), 3, 0) };
        let lens: Vec<_> = headers.iter().map(|one| one.msg_len as usize).collect();
        drop(a);
        let all = reader.join();
        // How much of a stream's message one call takes is the kernel's choice
        // on a thread; ours takes all. What was said to be taken has arrived.
        let counted: usize = lens[..sent as usize].iter().sum();
        assert_eq!(all.len(), counted);
        if on == On::Coroutines {
            assert_eq!(lens, [1_500_000, 10, 700_000]);
        }
        sent >= 1
    });
}

fn set(fds: &[RawFd]) -> libc::fd_set {
    // SAFETY: zeros are an empty set; the numbers are small.
    unsafe {
        let mut set = std::mem::zeroed();
        fds.iter().for_each(|&fd| libc::FD_SET(fd, &mut set));
        set
    }
}

fn has(set: &libc::fd_set, fd: RawFd) -> bool {
    // SAFETY: a set and a small number.
    unsafe { libc::FD_ISSET(fd, set) }
}

#[test]
fn select_finds_who_is_ready() {
    same(|on| {
        let (a, b) = UnixStream::pair().unwrap();
        let (c, d) = tcp_pair();
        let (x, y) = (a.as_raw_fd(), c.as_raw_fd());
        let n = x.max(y) + 1;
        let null = std::ptr::null_mut();
        let mut out = Vec::new();
        let (go, wait) = (b.try_clone().unwrap(), d);
        let writer = on.go(move || (&go).write_all(b"x").unwrap());
        // SAFETY: sets and times that live across the calls.
        unsafe {
            let mut r = set(&[x, y]);
            let answer = said(libc::select(n, &mut r, null, null, std::ptr::null_mut()) as isize);
            out.push((answer, has(&r, x), has(&r, y)));
            writer.join();
            let (mut r, mut w) = (set(&[x, y]), set(&[y]));
            let mut time = libc::timeval {
                tv_sec: 3600,
                tv_usec: 0,
            };
            let answer = said(libc::select(n, &mut r, &mut w, null, &mut time) as isize);
            out.push((answer, has(&r, x), has(&w, y)));
            assert!((1..=3600).contains(&time.tv_sec), "what is left of it");
            let mut r = set(&[y]);
            let mut time = libc::timeval {
                tv_sec: 0,
                tv_usec: 20_000,
            };
            let begun = Instant::now();
            let answer = said(libc::select(n, &mut r, null, null, &mut time) as isize);
            out.push((
                answer,
                has(&r, y),
                begun.elapsed() >= Duration::from_millis(20),
            ));
            assert_eq!((time.tv_sec, time.tv_usec), (0, 0));
            let short = libc::timespec {
                tv_sec: 0,
                tv_nsec: 1_000_000,
            };
            let mut r = set(&[y]);
            let (mask, all) = (std::ptr::null(), std::ptr::null_mut());
            let answer = said(libc::pselect(n, &mut r, all, all, &short, mask) as isize);
            out.push((answer, has(&r, y), true));
            let (mut r, mut e) = (set(&[x]), set(&[y]));
            let answer = said(libc::pselect(n, &mut r, all, &mut e, &short, mask) as isize);
            out.push((answer, has(&r, x), has(&e, y)));
            // Only a time, as portable sleeps have it; and nonsense.
            out.push((
                said(libc::pselect(0, all, all, all, &short, mask) as isize),
                true,
                true,
            ));
            out.push((
                said(libc::select(-1, all, all, all, &mut time) as isize),
                true,
                true,
            ));
            let mut bad = libc::timeval {
                tv_sec: -1,
                tv_usec: 0,
            };
            out.push((
                said(libc::select(0, all, all, all, &mut bad) as isize),
                true,
                true,
            ));
            // The kernel ignores numbers beyond its table, which grows with
            // the highest that was ever open.
            let high = libc::fcntl(x, libc::F_DUPFD_CLOEXEC, 1000);
            assert_eq!(libc::close(high), 0);
            let mut r = set(&[1000]);
            out.push((
                said(libc::select(1001, &mut r, all, all, &mut time) as isize),
                true,
                true,
            ));
        }
        drop(wait);
        out
    });
}

fn epoll(fds: &[RawFd]) -> OwnedFd {
    // SAFETY: no pointers; the descriptor is fresh.
    let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
    for &fd in fds {
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: 7,
        };
        // SAFETY: an event.
        let added =
            unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
        assert_eq!(added, 0);
    }
    epoll
}

#[test]
fn a_foreign_epoll_parks() {
    if !crate::common::kernel_has(libc::SYS_epoll_pwait2) {
        return;
    }
    same(|on| {
        let (a, b) = UnixStream::pair().unwrap();
        let epoll = epoll(&[a.as_raw_fd()]);
        let fd = epoll.as_raw_fd();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
        let mut out = Vec::new();
        let null = std::ptr::null();
        for _ in 0..3 {
            let peer = b.try_clone().unwrap();
            let writer = on.go(move || (&peer).write_all(b"x").unwrap());
            // SAFETY: four events, for this and all below.
            out.push(said(
                unsafe { libc::epoll_wait(fd, events.as_mut_ptr(), 4, -1) } as isize,
            ));
            out.push(Ok(events[0].u64 as usize));
            writer.join();
        }
        let (time, begun) = (
            libc::timespec {
                tv_sec: 0,
                tv_nsec: 3_000_000,
            },
            Instant::now(),
        );
        // SAFETY: as above; a time.
        unsafe {
            out.push(said(
                libc::epoll_pwait(fd, events.as_mut_ptr(), 4, 3, null) as isize
            ));
            out.push(said(
                libc::epoll_wait(fd, events.as_mut_ptr(), 4, 0) as isize
            ));
            out.push(said(libc::syscall(
                libc::SYS_epoll_pwait2,
                fd,
                events.as_mut_ptr(),
                4,
                &time,
                null,
                8,
            ) as isize));
            out.push(said(
                libc::epoll_wait(fd, events.as_mut_ptr(), 0, -1) as isize
            ));
            out.push(said(
                libc::epoll_wait(-1, events.as_mut_ptr(), 4, -1) as isize
            ));
            out.push(said(
                libc::epoll_wait(a.as_raw_fd(), events.as_mut_ptr(), 4, -1) as isize,
            ));
        }
        assert!(begun.elapsed() >= Duration::from_millis(5));
        out
    });
}

/// Descriptors whose reads wait for something of their own, and what ends the
/// waiting.
fn odd_descriptors() -> Vec<(&'static str, OwnedFd, Box<dyn FnOnce() + Send>)> {
    // SAFETY: no pointers but to locals; descriptors are fresh.
    unsafe {
        let event = libc::eventfd(0, libc::EFD_CLOEXEC);
        let timer = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC);
        let (watch, path) = (libc::inotify_init1(libc::IN_CLOEXEC), std::env::temp_dir());
        let name = format!("crore-watched-{}-{event}", std::process::id());
        let watched = path.join(name);
        std::fs::write(&watched, "").unwrap();
        let text = std::ffi::CString::new(watched.to_str().unwrap()).unwrap();
        libc::inotify_add_watch(watch, text.as_ptr(), libc::IN_CLOSE_WRITE);
        let (mut tty, mut pts) = (0, 0);
        let (none, no_term, no_size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
        assert_eq!(libc::openpty(&mut tty, &mut pts, none, no_term, no_size), 0);
        [
            (
                "eventfd",
                event,
                Box::new(move || {
                    let one = 3u64;
                    assert_eq!(libc::write(event, (&raw const one).cast(), 8), 8);
                }) as Box<dyn FnOnce() + Send>,
            ),
            (
                "timerfd",
                timer,
                Box::new(move || {
                    let mut spec: libc::itimerspec = std::mem::zeroed();
                    spec.it_value.tv_nsec = 1_000_000;
                    libc::timerfd_settime(timer, 0, &spec, std::ptr::null_mut());
                }),
            ),
            (
                "inotify",
                watch,
                Box::new(move || {
                    std::fs::write(&watched, "x").unwrap();
                    std::fs::remove_file(&watched).unwrap();
                }),
            ),
            (
                "tty",
                pts,
                Box::new(move || {
                    assert_eq!(libc::write(tty, b"line\n".as_ptr().cast(), 5), 5);
                }),
            ),
        ]
        .map(|(name, fd, end)| (name, OwnedFd::from_raw_fd(fd), end))
        .into()
    }
}

#[test]
fn reads_of_every_kind_wait() {
    same(|on| {
        let mut out = Vec::new();
        for (name, fd, end) in odd_descriptors() {
            let raw = fd.as_raw_fd();
            let reader = on.go(move || {
                let mut buf = [0; 64];
                let got = read(raw, &mut buf);
                // The events of a watch carry its number, and may be several.
                match name {
                    "inotify" => (got.map(|n| n.min(16)), Vec::new()),
                    _ => (got, buf[..8].to_vec()),
                }
            });
            if on == On::Coroutines {
                crore::yield_now();
            }
            end();
            out.push((name, reader.join()));
            if matches!(name, "eventfd" | "timerfd") {
                // Refused; the others wait although they can give nothing.
                out.push((name, (read(raw, &mut [0; 4]), Vec::new())));
            }
        }
        out
    });
}

#[test]
fn signalfds_and_pidfds_are_polled_first() {
    if !crate::common::kernel_has(libc::SYS_pidfd_open) {
        return;
    }
    in_coroutines(|_| {
        // SAFETY: a set of our own; the signal is blocked on this thread and
        // sent to it, so nobody else gets it.
        unsafe {
            let mut only = std::mem::zeroed();
            libc::sigemptyset(&mut only);
            libc::sigaddset(&mut only, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_BLOCK, &only, std::ptr::null_mut());
            let fd = OwnedFd::from_raw_fd(libc::signalfd(-1, &only, libc::SFD_CLOEXEC));
            let raw = fd.as_raw_fd();
            let reader = crore::spawn(move || {
                let mut info: libc::signalfd_siginfo = std::mem::zeroed();
                let got = libc::read(raw, (&raw mut info).cast(), 128);
                (got, info.ssi_signo)
            });
            crore::yield_now();
            libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2);
            assert_eq!(reader.join().unwrap(), (128, libc::SIGUSR2 as u32));
            let pidfd = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as c_int;
            let pidfd = OwnedFd::from_raw_fd(pidfd);
            assert_eq!(read(pidfd.as_raw_fd(), &mut [0; 8]), Err(libc::EINVAL));
        }
    });
}

#[test]
fn a_shutdown_ends_all_waits_on_the_socket() {
    same(|on| {
        let (a, _b) = tcp_pair();
        let [r, w] = [0; 2].map(|_| a.try_clone().unwrap());
        let reader = on.go(move || (&r).read(&mut [0; 8]).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let connected = TcpStream::connect(addr).unwrap();
        drop(listener.accept().unwrap());
        if on == On::Coroutines {
            crore::yield_now();
        }
        a.shutdown(Shutdown::Both).unwrap();
        drop(connected);
        let write = (&w).write(b"x").map_err(|error| error.raw_os_error());
        (reader.join(), write)
    });
}

#[test]
fn a_listener_shared_with_a_thread_loses_no_race() {
    in_coroutines(|_| {
        const EACH: usize = 300;
        let listener = std::sync::Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let addr = listener.local_addr().unwrap();
        let taken = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let acceptor = |listener: std::sync::Arc<TcpListener>| {
            let taken = std::sync::Arc::clone(&taken);
            move || {
                while taken.load(std::sync::atomic::Ordering::SeqCst) < 2 * EACH {
                    let (mut peer, _) = listener.accept().unwrap();
                    let _ = peer.write_all(b"!");
                    taken.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            }
        };
        let ours = crore::spawn(acceptor(listener.clone()));
        let theirs = std::thread::spawn(acceptor(listener.clone()));
        let beat = crore::spawn(|| {
            let mut longest = Duration::ZERO;
            for _ in 0..100 {
                let begun = Instant::now();
                crore::sleep(Duration::from_millis(1));
                longest = longest.max(begun.elapsed());
            }
            longest
        });
        for _ in 0..2 * EACH {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.read_exact(&mut [0]).unwrap();
        }
        // Both have seen the last connection, or wait for one more.
        beat.join().unwrap();
        for _ in 0..2 {
            drop(TcpStream::connect(addr));
        }
        ours.join().unwrap();
        // SAFETY: F_GETFL takes no pointer.
        let flags = unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        crore::spawn_blocking(move || {
            drop(TcpStream::connect(addr));
            theirs.join().unwrap();
        })
        .join()
        .unwrap();
        // What the user says counts.
        listener.set_nonblocking(true).unwrap();
        let refused = listener.accept().map(drop);
        let left = refused.map_err(|error| error.raw_os_error());
        assert!(matches!(left, Ok(()) | Err(Some(libc::EAGAIN))));
        // SAFETY: F_GETFL takes no pointer.
        let flags = unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_GETFL) };
        assert_ne!(flags & libc::O_NONBLOCK, 0);
    });
}

#[test]
fn ranges_of_descriptors_are_closed_with_their_waiters() {
    if !crate::common::kernel_has(libc::SYS_close_range) {
        return;
    }
    // Others have descriptors in the range.
    let name = "ranges_of_descriptors_are_closed_with_their_waiters";
    let output = in_child(name, ranges_are_closed);
    assert!(output.status.success(), "{output:?}");
}

fn ranges_are_closed() {
    in_coroutines(|_| {
        let (a, _b) = tcp_pair();
        // SAFETY: no pointers; the number is far above all others.
        let high = unsafe { libc::fcntl(a.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 900) };
        let reader = crore::spawn(move || read(high, &mut [0; 8]));
        let wrapped = crore::spawn(move || {
            let poll = hook_poll(high);
            (poll, read(high, &mut [0; 8]))
        });
        crore::yield_now();
        // SAFETY: numbers from ours on, which nobody else has.
        assert_eq!(unsafe { libc::close_range(high as u32, 10_000, 0) }, 0);
        assert_eq!(reader.join().unwrap(), Err(libc::EBADF));
        assert_eq!(wrapped.join().unwrap(), (libc::POLLNVAL, Err(libc::EBADF)));
    });
}

/// What `poll` for input says, in the end.
fn hook_poll(fd: RawFd) -> i16 {
    let mut entry = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry.
    unsafe { libc::poll(&mut entry, 1, -1) };
    entry.revents
}
