//! The promise: another library's event loop in a coroutine that is to end gets no
//! error that it would take for a bug. It waits on; its connections break, as those
//! of a network do, so that what it waits for ends in time.
#![cfg(feature = "hook")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crore::{Runtime, timeout};

use crate::common::{in_child, stderr, with_own_locals};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

/// How a coroutine is told to end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Cancel,
    Timeout,
    Run,
}

const ALL: [End; 3] = [End::Cancel, End::Timeout, End::Run];

/// The functions that loops wait in.
#[derive(Clone, Copy, Debug)]
enum Wait {
    Poll,
    Ppoll,
    Select,
    Pselect,
    Epoll,
    EpollPwait,
    EpollPwait2,
}

const WAITS: [Wait; 7] = [
    Wait::Poll,
    Wait::Ppoll,
    Wait::Select,
    Wait::Pselect,
    Wait::Epoll,
    Wait::EpollPwait,
    Wait::EpollPwait2,
];

impl Wait {
    /// Waits until one of the numbers is readable, for so many milliseconds at most:
    /// which.
    fn once(self, fds: &[RawFd], millis: i32) -> io::Result<Vec<RawFd>> {
        let limit = libc::timespec {
            tv_sec: (millis / 1000).into(),
            tv_nsec: i64::from(millis % 1000) * 1_000_000,
        };
        let limit = if millis < 0 {
            std::ptr::null()
        } else {
            &raw const limit
        };
        match self {
            Self::Poll | Self::Ppoll => polled(fds, |entries| {
                let (all, n) = (entries.as_mut_ptr(), entries.len() as u64);
                // SAFETY: so many entries, a live time or none.
                unsafe {
                    match self {
                        Self::Poll => libc::poll(all, n, millis),
                        _ => libc::ppoll(all, n, limit, std::ptr::null()),
                    }
                }
            }),
            Self::Select | Self::Pselect => selected(fds, |n, set| {
                let none: *mut libc::fd_set = std::ptr::null_mut();
                let mut time = libc::timeval {
                    tv_sec: (millis / 1000).into(),
                    tv_usec: i64::from(millis % 1000) * 1000,
                };
                let time = if millis < 0 {
                    none.cast()
                } else {
                    &raw mut time
                };
                // SAFETY: a set for so many, live times or none.
                unsafe {
                    match self {
                        Self::Select => libc::select(n, set, none, none, time),
                        _ => libc::pselect(n, set, none, none, limit, std::ptr::null()),
                    }
                }
            }),
            _ => epolled(fds, |epoll, events| {
                let (all, n) = (events.as_mut_ptr(), events.len() as i32);
                let mask = std::ptr::null();
                // SAFETY: so many places, a live time or none.
                unsafe {
                    match self {
                        Self::Epoll => libc::epoll_wait(epoll, all, n, millis),
                        Self::EpollPwait => libc::epoll_pwait(epoll, all, n, millis, mask),
                        _ => libc::epoll_pwait2(epoll, all, n, limit, mask),
                    }
                }
            }),
        }
    }
}

fn counted(n: i32) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

fn polled(fds: &[RawFd], wait: impl FnOnce(&mut [libc::pollfd]) -> i32) -> io::Result<Vec<RawFd>> {
    let entry = |&fd: &RawFd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut entries: Vec<_> = fds.iter().map(entry).collect();
    let n = counted(wait(&mut entries))?;
    entries.retain(|one| one.revents != 0);
    assert_eq!(entries.len(), n);
    Ok(entries.iter().map(|one| one.fd).collect())
}

fn selected(
    fds: &[RawFd],
    wait: impl FnOnce(i32, *mut libc::fd_set) -> i32,
) -> io::Result<Vec<RawFd>> {
    // SAFETY: zeros are an empty set; the numbers are small.
    unsafe {
        let mut set: libc::fd_set = std::mem::zeroed();
        fds.iter().for_each(|&fd| libc::FD_SET(fd, &raw mut set));
        let above = fds.iter().max().map_or(0, |fd| fd + 1);
        let n = counted(wait(above, &raw mut set))?;
        let members = fds.iter().copied();
        let members: Vec<_> = members.filter(|&fd| libc::FD_ISSET(fd, &set)).collect();
        assert_eq!(members.len(), n);
        Ok(members)
    }
}

fn epolled(
    fds: &[RawFd],
    wait: impl FnOnce(RawFd, &mut [libc::epoll_event]) -> i32,
) -> io::Result<Vec<RawFd>> {
    // SAFETY: no pointers; made just now.
    let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
    for &fd in fds {
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: fd as u64 | 1 << 40,
        };
        // SAFETY: a live event.
        let added =
            unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        assert_eq!(added, 0);
    }
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
    let n = counted(wait(epoll.as_raw_fd(), &mut events))?;
    Ok(events[..n]
        .iter()
        .map(|one| one.u64 as u32 as RawFd)
        .collect())
}

/// Runs `work` in a coroutine that is told to end while it is on, in every way, on
/// both kinds of stack.
fn ended(work: impl Fn(End) + Send + Sync + 'static) {
    let work = Arc::new(work);
    for (end, own) in ALL
        .into_iter()
        .flat_map(|end| with_own_locals().map(move |own| (end, own)))
    {
        let runtime = Runtime::builder().own_thread_locals(own).build().unwrap();
        let work = Arc::clone(&work);
        let ended = runtime.run(move || {
            let handle = crore::spawn(move || match end {
                End::Timeout => _ = timeout(SHORT, || work(end)),
                _ => work(end),
            });
            crore::sleep(SHORT * 2);
            assert!(!handle.is_finished(), "{end:?}: it does not wait");
            if end == End::Cancel {
                handle.cancel();
            }
            (end != End::Run).then(|| handle.join().unwrap())
        });
        ended.unwrap();
    }
}

fn eventfd() -> OwnedFd {
    // SAFETY: no pointers; made just now.
    unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)) }
}

fn is_to_end(end: End) -> bool {
    match end {
        End::Timeout => crore::deadline().is_some_and(|end| Instant::now() >= end),
        _ => crore::is_cancelled(),
    }
}

#[test]
fn a_loop_waits_out_its_time_and_its_calls_that_never_wait_are_made() {
    for wait in WAITS {
        ended(move |end| {
            let event = eventfd();
            let (pair, mut other) = UnixStream::pair().unwrap();
            let (pipe, mut into) = io::pipe().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            pair.set_nonblocking(true).unwrap();
            other.set_nonblocking(true).unwrap();
            listener.set_nonblocking(true).unwrap();
            set_nonblocking(pipe.as_raw_fd());
            set_nonblocking(into.as_raw_fd());
            let all = [
                event.as_raw_fd(),
                pair.as_raw_fd(),
                pipe.as_raw_fd(),
                listener.as_raw_fd(),
            ];
            // Told to end meanwhile, and from the start.
            let start = Instant::now();
            assert_eq!(wait.once(&all, 40).unwrap(), []);
            assert!(start.elapsed() >= Duration::from_millis(40));
            assert!(is_to_end(end));
            assert_eq!(wait.once(&all, 15).unwrap(), []);
            assert!(start.elapsed() >= Duration::from_millis(55));
            assert_eq!(wait.once(&all, 0).unwrap(), []);
            // What it tells itself arrives.
            let one = 1_u64.to_ne_bytes();
            // SAFETY: eight bytes.
            let told = unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), 8) };
            assert_eq!(told, 8);
            assert_eq!(other.write(b"x").unwrap(), 1);
            assert_eq!(into.write(b"x").unwrap(), 1);
            assert_eq!(wait.once(&all, -1).unwrap(), all[..3]);
            let mut eight = [0; 8];
            // SAFETY: eight bytes.
            let heard = unsafe { libc::read(event.as_raw_fd(), eight.as_mut_ptr().cast(), 8) };
            assert_eq!((heard, eight), (8, one));
            assert_eq!((&pair).read(&mut eight).unwrap(), 1);
            assert_eq!((&pipe).read(&mut eight).unwrap(), 1);
            for again in [(&pair).read(&mut eight), (&pipe).read(&mut eight)] {
                assert_eq!(again.unwrap_err().kind(), ErrorKind::WouldBlock);
            }
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        });
    }
}

fn set_nonblocking(fd: RawFd) {
    // SAFETY: no pointers.
    let set = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(set, 0);
}

/// What `fd` says when it is read by a call that never waits, once the loop has been
/// told of it.
fn breaks(wait: Wait, fd: RawFd, quiet: RawFd) -> Option<i32> {
    let start = Instant::now();
    assert_eq!(wait.once(&[quiet, fd], -1).unwrap(), [fd]);
    // A loop that does not listen does not spin.
    let told = Instant::now();
    assert_eq!(wait.once(&[quiet, fd], -1).unwrap(), [fd]);
    assert!(told.elapsed() >= SHORT && start.elapsed() < LONG);
    // Nor is it kept waiting for longer than it wants.
    assert_eq!(wait.once(&[quiet, fd], 1).unwrap(), [fd]);
    // SAFETY: a place for a byte.
    let got = unsafe { libc::recv(fd, [0_u8].as_mut_ptr().cast(), 1, 0) };
    assert_eq!(got, -1);
    io::Error::last_os_error().raw_os_error()
}

#[test]
fn connections_break() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let path = std::env::temp_dir().join(format!("crore-loops-{}", std::process::id()));
    let named = UnixListener::bind(&path).unwrap();
    let theirs = path.clone();
    for wait in WAITS {
        let theirs = theirs.clone();
        ended(move |end| {
            let broken = Some(match end {
                End::Timeout => libc::ETIMEDOUT,
                _ => libc::ECONNRESET,
            });
            let quiet = eventfd();
            let tcp = TcpStream::connect(address).unwrap();
            tcp.set_nonblocking(true).unwrap();
            let unix = UnixStream::connect(&theirs).unwrap();
            unix.set_nonblocking(true).unwrap();
            assert_eq!(breaks(wait, tcp.as_raw_fd(), quiet.as_raw_fd()), broken);
            assert_eq!(breaks(wait, unix.as_raw_fd(), quiet.as_raw_fd()), broken);
            assert_eq!((&tcp).write(b"x").unwrap_err().raw_os_error(), broken);
            assert_eq!((&unix).read(&mut [0]).unwrap_err().raw_os_error(), broken);
        });
        // The backlog is short.
        while named.set_nonblocking(true).is_ok() && named.accept().is_ok() {}
        while listener.set_nonblocking(true).is_ok() && listener.accept().is_ok() {}
    }
    std::fs::remove_file(path).unwrap();
}

/// Unwinds, with something in its frames whose destructor runs an event loop, as
/// clients of databases do.
fn unwinding(at_end: fn()) -> impl FnOnce() + Send {
    struct AtEnd(fn());
    impl Drop for AtEnd {
        fn drop(&mut self) {
            assert!(thread::panicking());
            (self.0)();
        }
    }
    move || {
        let _at_end = AtEnd(at_end);
        crore::park();
        resume_unwind(Box::new("unparked"));
    }
}

#[test]
fn a_loop_in_a_destructor_goes_on() {
    static TURNS: AtomicU32 = AtomicU32::new(0);
    /// Whether another coroutine had a turn meanwhile.
    fn waits(wait: Wait) -> bool {
        let (event, start, turns) = (eventfd(), Instant::now(), TURNS.load(Relaxed));
        assert_eq!(wait.once(&[event.as_raw_fd()], 20).unwrap(), []);
        assert!(start.elapsed() >= Duration::from_millis(20));
        TURNS.load(Relaxed) > turns
    }
    // With thread-locals of its own it parks, and in one of these waits the other one's
    // time comes; otherwise the thread waits.
    fn parks() {
        for wait in WAITS {
            assert!((0..100).any(|_| waits(wait)));
        }
    }
    fn blocks() {
        for wait in WAITS {
            assert!(!waits(wait));
        }
    }
    for own in with_own_locals() {
        let at_end: fn() = if own { parks } else { blocks };
        let runtime = Runtime::builder().own_thread_locals(own).build().unwrap();
        let run = runtime.run(move || {
            let cancelled = crore::spawn(unwinding(at_end));
            let panicked = crore::spawn(unwinding(at_end));
            crore::yield_now();
            cancelled.cancel();
            panicked.coroutine().unpark();
            let stop = Arc::new(AtomicBool::new(false));
            let theirs = Arc::clone(&stop);
            let other = crore::spawn(move || {
                while !theirs.load(Relaxed) {
                    crore::sleep(Duration::from_millis(1));
                    TURNS.fetch_add(1, Relaxed);
                }
            });
            assert!(cancelled.join().unwrap_err().is_cancelled());
            assert!(panicked.join().is_err());
            stop.store(true, Relaxed);
            other.join().unwrap();
        });
        run.unwrap();
    }
}

#[test]
fn a_loop_that_goes_on_is_reported() {
    let output = in_child("a_loop_that_goes_on_is_reported", || {
        crore::run(|| {
            let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
                let builder = crore::Builder::new().name(name.to_owned());
                builder.spawn(work).unwrap()
            };
            let idle = || {
                let event = eventfd();
                assert_eq!(Wait::Epoll.once(&[event.as_raw_fd()], 1500).unwrap(), []);
            };
            let cancelled = spawn("cancelled one", Box::new(idle));
            let late = move || assert!(timeout(SHORT, idle).is_ok());
            let late = spawn("late one", Box::new(late));
            let joins = || thread::spawn(|| thread::sleep(LONG / 2000)).join().unwrap();
            let joining = spawn("joining one", Box::new(joins));
            crore::sleep(SHORT);
            cancelled.cancel();
            joining.cancel();
            late.join().unwrap();
        })
        .unwrap();
    });
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    for words in [
        "'cancelled one' ",
        "is cancelled and waits in epoll_wait",
        "'late one' ",
        "is late and waits in epoll_wait",
        "'joining one' ",
        "is cancelled and waits for the end of a thread",
    ] {
        let times = said.matches(words).count();
        assert_eq!(times, 1, "{words:?} in {said}");
    }
}

/// Loops reap children and try locks by calls that never wait.
#[test]
fn what_never_waits_says_what_the_kernel_does() {
    ended(|end| {
        let mut child = Command::new("true").spawn().unwrap();
        let path = std::env::temp_dir().join(format!("crore-loops-lock-{}", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        file.try_lock().unwrap();
        assert_eq!(Wait::Poll.once(&[], 50).unwrap(), []);
        assert!(is_to_end(end));
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < LONG);
        }
        file.unlock().unwrap();
        file.try_lock().unwrap();
        let (here, _there) = UnixStream::pair().unwrap();
        // SAFETY: a place for a byte.
        let got = unsafe {
            let (place, flags) = ([0_u8].as_mut_ptr().cast(), libc::MSG_DONTWAIT);
            libc::recv(here.as_raw_fd(), place, 1, flags)
        };
        assert_eq!(got, -1);
        assert_eq!(io::Error::last_os_error().kind(), ErrorKind::WouldBlock);
        std::fs::remove_file(&path).unwrap();
    });
}
