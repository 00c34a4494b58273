//! Waiting: `poll`, sleeping, and `unhooked`.

use crate::hook_common;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::common::left_over::meant_to_leave;
use crate::hook_common::{in_coroutines, said, same};

const MOMENT: Duration = Duration::from_millis(20);

fn entry(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// What `poll` says, and the events of each entry.
fn poll(entries: &mut [libc::pollfd], timeout: i32) -> (Result<usize, i32>, Vec<i16>) {
    // SAFETY: valid entries.
    let n = said(unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as _, timeout) } as isize);
    (n, entries.iter().map(|e| e.revents).collect())
}

#[test]
fn poll_finds_the_one_among_many() {
    same(|on| {
        let pairs: Vec<_> = (0..100).map(|_| UnixStream::pair().unwrap()).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let mut entries: Vec<_> = ours
            .iter()
            .map(|s| entry(s.as_raw_fd(), libc::POLLIN))
            .collect();
        entries.push(entry(-1, libc::POLLIN));
        let mut said = vec![poll(&mut entries, 0)];
        let writer = on.go(move || {
            (&theirs[42]).write_all(b"x").unwrap();
            theirs
        });
        said.push(poll(&mut entries, -1));
        let theirs = writer.join();
        let mut byte = [0];
        (&ours[42]).read_exact(&mut byte).unwrap();
        said.push(poll(&mut entries, 5));
        let closer = on.go(move || drop(theirs));
        closer.join();
        said.push(poll(&mut entries, -1));
        said
    });
}

#[test]
fn poll_says_what_it_says() {
    same(|_| {
        let (a, b) = UnixStream::pair().unwrap();
        let fd = a.as_raw_fd();
        (&b).write_all(b"x").unwrap();
        let many = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut said = vec![
            poll(&mut [entry(fd, many)], -1),
            poll(&mut [entry(1 << 28, libc::POLLIN)], -1),
            poll(&mut [entry(file.as_raw_fd(), libc::POLLIN)], -1),
            poll(&mut [entry(fd, libc::POLLPRI)], 7),
            poll(&mut [], 3),
        ];
        drop(b);
        said.push(poll(&mut [entry(fd, 0)], -1));
        // SAFETY: a bad address and a bad time are refused.
        said.push(unsafe {
            let bad = libc::timespec {
                tv_sec: 0,
                tv_nsec: -1,
            };
            let n = libc::ppoll(std::ptr::null_mut(), 0, &raw const bad, std::ptr::null());
            (hook_common::said(n as isize), Vec::new())
        });
        said
    });
}

#[test]
fn poll_waits_its_time_and_no_less() {
    same(|_| {
        let (a, b) = UnixStream::pair().unwrap();
        for entries in [&mut [entry(a.as_raw_fd(), libc::POLLIN)][..], &mut []] {
            let begin = Instant::now();
            assert_eq!(poll(entries, 20).0, Ok(0));
            assert!(begin.elapsed() >= MOMENT);
        }
        let limit = libc::timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        let mut two = [
            entry(a.as_raw_fd(), libc::POLLIN),
            entry(b.as_raw_fd(), libc::POLLIN),
        ];
        let begin = Instant::now();
        // SAFETY: valid entries and a valid time.
        let n = unsafe { libc::ppoll(two.as_mut_ptr(), 2, &raw const limit, std::ptr::null()) };
        assert!(begin.elapsed() >= MOMENT);
        n
    });
}

#[test]
fn a_full_socket_is_polled_for_room() {
    same(|on| {
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        while (&a).write(&[0; 4096]).is_ok() {}
        let full = poll(&mut [entry(a.as_raw_fd(), libc::POLLOUT)], 0);
        let reader = on.go(move || {
            let mut buf = vec![0; 1 << 20];
            let mut total = 0;
            while total < 100_000 {
                total += (&b).read(&mut buf).unwrap();
            }
            b
        });
        let room = poll(&mut [entry(a.as_raw_fd(), libc::POLLOUT)], -1);
        drop(reader.join());
        (full, room)
    });
}

fn spec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    }
}

#[test]
fn sleeps_last_and_refuse_nonsense() {
    same(|_| {
        let timed = |sleep: &dyn Fn() -> i32| {
            let begin = Instant::now();
            let said = sleep();
            assert!(begin.elapsed() >= MOMENT, "{:?}", begin.elapsed());
            said
        };
        let none = std::ptr::null_mut();
        let moment = spec(MOMENT);
        let clock = |id: i32, flags: i32, time: &libc::timespec| {
            // SAFETY: a valid time; no rest is asked for.
            unsafe { libc::clock_nanosleep(id, flags, time, none) }
        };
        let at = |id| {
            let mut now = spec(Duration::ZERO);
            // SAFETY: a place for the time.
            assert_eq!(unsafe { libc::clock_gettime(id, &raw mut now) }, 0);
            spec(Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + MOMENT)
        };
        let mut said = vec![
            timed(&|| {
                std::thread::sleep(MOMENT);
                0
            }),
            // SAFETY: a valid time.
            timed(&|| unsafe { libc::nanosleep(&raw const moment, none) }),
            // SAFETY: no pointers.
            timed(&|| unsafe { libc::usleep(20_000) }),
        ];
        for id in [
            libc::CLOCK_REALTIME,
            libc::CLOCK_MONOTONIC,
            libc::CLOCK_BOOTTIME,
        ] {
            said.push(timed(&|| clock(id, 0, &moment)));
            said.push(timed(&|| clock(id, libc::TIMER_ABSTIME, &at(id))));
            said.push(clock(id, libc::TIMER_ABSTIME, &spec(MOMENT)));
        }
        for (tv_sec, tv_nsec) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            let bad = libc::timespec { tv_sec, tv_nsec };
            said.push(clock(libc::CLOCK_MONOTONIC, 0, &bad));
            // SAFETY: a readable time, which is refused.
            said.push(unsafe { libc::nanosleep(&raw const bad, none) });
        }
        said.push(clock(12_345, 0, &moment));
        said
    });
}

#[test]
fn a_thousand_sleep_at_once() {
    in_coroutines(|on| {
        let begin = Instant::now();
        let all: Vec<_> = (0..1000)
            .map(|_| on.go(|| std::thread::sleep(MOMENT * 5)))
            .collect();
        all.into_iter().for_each(|one| one.join());
        let took = begin.elapsed();
        // Half the time that one after the other would take.
        assert!((MOMENT * 5..MOMENT * 5 * 500).contains(&took), "{took:?}");
    });
}

#[test]
fn unhooked_code_blocks_the_thread() {
    in_coroutines(|on| {
        use std::sync::atomic::{AtomicBool, Ordering};
        static RAN: AtomicBool = AtomicBool::new(false);
        let other = on.go(|| RAN.store(true, Ordering::Relaxed));
        crore::hook::unhooked(|| {
            crore::hook::unhooked(|| std::thread::sleep(Duration::from_millis(1)));
            std::thread::sleep(Duration::from_millis(1));
            assert!(!RAN.load(Ordering::Relaxed), "nobody else can run here");
        });
        let caught = std::panic::catch_unwind(|| crore::hook::unhooked(|| panic!("on purpose")));
        assert!(caught.is_err());
        std::thread::sleep(Duration::from_millis(1));
        assert!(
            RAN.load(Ordering::Relaxed),
            "hooks are back after the panic"
        );
        other.join();
    });
}

#[test]
fn cancelled_calls_fail_and_sleeps_end() {
    in_coroutines(|_| {
        let (a, b) = UnixStream::pair().unwrap();
        let pending = crore::spawn(move || {
            let first = (&a).read(&mut [0; 4]).unwrap_err().raw_os_error();
            // Every later call fails too, ready or not; sleeps return.
            let next = (&a).write(b"x").unwrap_err().raw_os_error();
            std::thread::sleep(Duration::from_secs(3600));
            // An event loop's wait goes on.
            let polled = poll(&mut [entry(a.as_raw_fd(), libc::POLLIN)], 20).0;
            (first, next, polled)
        });
        let sleeper = crore::spawn(|| std::thread::sleep(Duration::from_secs(3600)));
        crore::yield_now();
        pending.cancel();
        sleeper.cancel();
        let code = Some(libc::ECANCELED);
        assert_eq!(pending.join().unwrap(), (code, code, Ok(0)));
        sleeper.join().unwrap();
        drop(b);
    });
}

#[test]
fn a_runtime_ends_although_errors_are_ignored() {
    meant_to_leave("ranges of stacks", 1);
    in_coroutines(|on| {
        let (a, b) = UnixStream::pair().unwrap();
        // Never looks at an error: it is abandoned in the end.
        drop(on.go(move || {
            loop {
                let _ = (&a).read(&mut [0; 4]);
            }
        }));
        crore::yield_now();
        drop(b);
    });
}

#[test]
fn files_neither_yield_nor_fail_by_cancellation() {
    in_coroutines(|_| {
        use std::sync::atomic::{AtomicBool, Ordering};
        static RAN: AtomicBool = AtomicBool::new(false);
        let path = std::env::temp_dir().join(format!("crore-log-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        let other = crore::spawn(|| RAN.store(true, Ordering::Relaxed));
        // More calls than any budget, as under a logger's lock.
        for _ in 0..10_000 {
            file.write_all(b"line\n").unwrap();
        }
        assert!(!RAN.load(Ordering::Relaxed));
        other.join().unwrap();
        let saver = crore::spawn(move || {
            crore::current().cancel();
            std::thread::sleep(Duration::from_secs(3600));
            file.write_all(b"saved").unwrap();
        });
        saver.join().unwrap();
        assert!(std::fs::read(&path).unwrap().ends_with(b"saved"));
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn busy_sockets_let_others_run() {
    in_coroutines(|_| {
        use std::sync::atomic::{AtomicBool, Ordering};
        static DONE: AtomicBool = AtomicBool::new(false);
        let (a, b) = UnixStream::pair().unwrap();
        let other = crore::spawn(|| DONE.store(true, Ordering::Relaxed));
        // Never waits: what is sent is there to be received.
        while !DONE.load(Ordering::Relaxed) {
            (&a).write_all(b"x").unwrap();
            (&b).read_exact(&mut [0]).unwrap();
        }
        other.join().unwrap();
    });
}

/// No event is asked for: then a hang-up is all that can come.
#[test]
fn a_poll_for_nothing_waits_for_the_hang_up() {
    same(|on| {
        let (near, far) = UnixStream::pair().unwrap();
        let mut entries = [entry(near.as_raw_fd(), 0)];
        let closer = on.go(move || drop(far));
        let ready = poll(&mut entries, -1);
        closer.join();
        (ready, entries[0].revents)
    });
}

/// Linux leaves there what is left, whole seconds too.
#[test]
fn select_says_what_is_left_of_its_time() {
    same(|on| {
        let (near, mut far) = UnixStream::pair().unwrap();
        let writer = on.go(move || {
            far.write_all(b"x").unwrap();
            far
        });
        let mut left = libc::timeval {
            tv_sec: 1_000,
            tv_usec: 0,
        };
        let (fd, none) = (near.as_raw_fd(), std::ptr::null_mut());
        // SAFETY: a set that is initialised; places that live across the call.
        let ready = unsafe {
            let mut set: libc::fd_set = std::mem::zeroed();
            libc::FD_SET(fd, &mut set);
            libc::select(fd + 1, &mut set, none, none, &mut left)
        };
        drop(writer.join());
        (ready, left.tv_sec < 1_000, left.tv_sec > 0)
    });
}

/// What others do meanwhile on the thread is not seen in errno.
#[test]
fn sleeps_leave_errno_alone() {
    in_coroutines(|_| {
        // SAFETY: libc's own thread-local; valid times.
        unsafe {
            let time = libc::timespec {
                tv_sec: 0,
                tv_nsec: 1_000_000,
            };
            let none = std::ptr::null_mut();
            let sleeps: [&dyn Fn() -> i32; 3] = [
                &|| libc::nanosleep(&time, none),
                &|| libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &time, none),
                &|| libc::usleep(1_000),
            ];
            for sleep in sleeps {
                let other = crore::spawn(|| libc::close(-1));
                *libc::__errno_location() = libc::EXDEV;
                assert_eq!(sleep(), 0);
                assert_eq!(*libc::__errno_location(), libc::EXDEV);
                assert_eq!(other.join().unwrap(), -1);
            }
        }
    });
}
