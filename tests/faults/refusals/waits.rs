//! One of each kind of wait, each with a result that is checked; and signals.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crore::sync::{Mutex, Notify, channel};

const SHORT: Duration = Duration::from_millis(1);

static SIGNALS: AtomicU64 = AtomicU64::new(0);

/// Signals to this thread, thousands a second, without `SA_RESTART`.
#[derive(Clone, Copy)]
pub(crate) struct Storm;

impl Storm {
    pub(crate) fn begin(every: Duration) -> Self {
        extern "C" fn count(_: libc::c_int) {
            SIGNALS.fetch_add(1, Relaxed);
        }
        // SAFETY: the handler adds to an atomic; all zeros are valid for these.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()), 0);
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGALRM;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer = ptr::null_mut();
            let made = libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer);
            assert_eq!(made, 0);
            let every = libc::timespec {
                tv_sec: 0,
                tv_nsec: every.as_nanos() as i64,
            };
            let times = libc::itimerspec {
                it_interval: every,
                it_value: every,
            };
            assert_eq!(libc::timer_settime(timer, 0, &times, ptr::null_mut()), 0);
        }
        Self
    }

    pub(crate) fn count(self) -> u64 {
        SIGNALS.load(Relaxed)
    }
}

fn lasts(f: impl FnOnce()) {
    let start = Instant::now();
    f();
    assert!(start.elapsed() >= SHORT);
}

/// Whoever is to be woken waits first, more often than not.
fn soon(f: impl FnOnce() + Send + 'static) -> crore::JoinHandle<()> {
    crore::spawn(|| {
        crore::sleep(SHORT);
        f();
    })
}

pub(crate) fn poll_two() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let (other, _open) = UnixStream::pair().unwrap();
    let writer = soon(move || far.write_all(b"x").unwrap());
    let mut entries = [&other, &near].map(|stream| libc::pollfd {
        fd: stream.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: two entries.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), 2, -1) };
    assert_eq!((ready, entries[0].revents), (1, 0));
    assert!(entries[1].revents & libc::POLLIN != 0);
    writer.join().unwrap();
}

pub(crate) fn nothing_to_read(stream: &UnixStream) {
    let fd = stream.as_raw_fd();
    let mut entry = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut now = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    // SAFETY: one entry; a set that is initialised; places that live.
    unsafe {
        assert_eq!(libc::poll(&mut entry, 1, 0), 0);
        let mut set: libc::fd_set = std::mem::zeroed();
        libc::FD_SET(fd, &mut set);
        let none = ptr::null_mut();
        assert_eq!(libc::select(fd + 1, &mut set, none, none, &mut now), 0);
    }
}

fn select_one() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let fd = near.as_raw_fd();
    let writer = soon(move || far.write_all(b"x").unwrap());
    // SAFETY: a set that is initialised and lives across the call.
    let ready = unsafe {
        let mut set: libc::fd_set = std::mem::zeroed();
        libc::FD_SET(fd, &mut set);
        let none = ptr::null_mut();
        libc::select(fd + 1, &mut set, none, none, none.cast())
    };
    assert_eq!(ready, 1);
    writer.join().unwrap();
}

fn epoll_one() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let writer = soon(move || far.write_all(b"x").unwrap());
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: 7,
    };
    // SAFETY: places for an event; the descriptor is ours.
    unsafe {
        let epoll = libc::epoll_create1(0);
        let added = libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, near.as_raw_fd(), &mut event);
        assert_eq!(added, 0);
        assert_eq!(libc::epoll_wait(epoll, &mut event, 1, -1), 1);
        libc::close(epoll);
    }
    writer.join().unwrap();
}

fn accept_and_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = soon(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    });
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"x").unwrap();
    client.join().unwrap();
}

fn write_much() {
    let (mut near, far) = UnixStream::pair().unwrap();
    let reader = soon(move || {
        let mut all = Vec::new();
        (&far).read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 1 << 20);
    });
    near.write_all(&vec![7; 1 << 20]).unwrap();
    drop(near);
    reader.join().unwrap();
}

/// Names for what goes wrong, and what must not.
pub(crate) fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("sleep", || lasts(|| crore::sleep(SHORT))),
        ("nanosleep", || lasts(|| thread::sleep(SHORT))),
        ("park_timeout", || lasts(|| crore::park_timeout(SHORT))),
        ("timeout", || {
            lasts(|| assert!(crore::timeout(SHORT, crore::park).is_err()));
        }),
        ("park", || {
            let me = crore::current();
            let other = soon(move || me.unpark());
            crore::park();
            other.join().unwrap();
        }),
        ("read and join", || {
            let (mut near, mut far) = UnixStream::pair().unwrap();
            let writer = soon(move || far.write_all(b"xy").unwrap());
            near.read_exact(&mut [0; 2]).unwrap();
            writer.join().unwrap();
        }),
        ("write", write_much),
        ("poll", poll_two),
        ("poll's time", || {
            // SAFETY: no entries.
            lasts(|| assert_eq!(unsafe { libc::poll(ptr::null_mut(), 0, 1) }, 0));
        }),
        ("select", select_one),
        ("epoll_wait", epoll_one),
        ("accept and connect", accept_and_connect),
        ("lock", || {
            let lock = std::sync::Arc::new(Mutex::new(0));
            let guard = lock.lock().unwrap();
            let theirs = std::sync::Arc::clone(&lock);
            let other = crore::spawn(move || *theirs.lock().unwrap() += 1);
            crore::sleep(SHORT);
            drop(guard);
            other.join().unwrap();
            assert_eq!(*lock.lock().unwrap(), 1);
        }),
        ("channel", || {
            let (to, from) = channel::rendezvous();
            let other = soon(move || to.send(5).unwrap());
            assert_eq!(from.recv(), Ok(5));
            other.join().unwrap();
        }),
        ("notify", || {
            let notify = std::sync::Arc::new(Notify::new());
            let theirs = std::sync::Arc::clone(&notify);
            let other = soon(move || theirs.notify_one());
            notify.wait();
            other.join().unwrap();
        }),
        ("a helper thread", || {
            assert_eq!(crore::spawn_blocking(|| 5).join().unwrap(), 5);
        }),
        ("a thread", || thread::spawn(|| ()).join().unwrap()),
        ("a name", || {
            assert!("127.0.0.1:80".to_socket_addrs().unwrap().next().is_some());
        }),
        ("a child", || {
            let mut command = Command::new("true");
            let status = command.stdin(Stdio::null()).status().unwrap();
            assert!(status.success());
        }),
    ]
}
