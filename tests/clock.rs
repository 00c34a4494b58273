//! The promise: the time of day may jump; waits go by the clock that does not.
#![cfg(feature = "hook")]

#[path = "common/left_over.rs"]
mod left_over;

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use crore::sync::channel;

/// Seconds that the time of day is off, for this whole process.
static JUMP: AtomicI64 = AtomicI64::new(0);
/// Questions for the time of day.
static ASKED: AtomicI64 = AtomicI64::new(0);

/// Stands in for libc's, for std and crore alike.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> i32 {
    // SAFETY: the caller's place for a time.
    unsafe {
        let result = libc::syscall(libc::SYS_clock_gettime, clock, time) as i32;
        if clock == libc::CLOCK_REALTIME && result == 0 {
            (*time).tv_sec += JUMP.load(Relaxed);
            ASKED.fetch_add(1, Relaxed);
        }
        result
    }
}

/// The time of day is everybody's.
static TURN: Mutex<()> = Mutex::new(());

const YEAR: i64 = 365 * 24 * 3600;
const WAIT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(3600);

/// Waits that must take their time, whatever the time of day becomes.
fn waits() -> Vec<crore::JoinHandle<Duration>> {
    fn timed(wait: fn()) -> crore::JoinHandle<Duration> {
        crore::spawn(move || {
            let start = Instant::now();
            wait();
            start.elapsed()
        })
    }
    vec![
        timed(|| crore::sleep(WAIT)),
        timed(|| crore::park_timeout(WAIT)),
        timed(|| assert!(crore::timeout(WAIT, crore::park).is_err())),
        timed(|| std::thread::sleep(WAIT)),
        timed(|| assert!(channel::unbounded::<u8>().1.recv_timeout(WAIT).is_err())),
        timed(|| {
            // SAFETY: no entries.
            unsafe { libc::poll(std::ptr::null_mut(), 0, WAIT.as_millis() as i32) };
        }),
        timed(|| {
            let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
            near.set_read_timeout(Some(WAIT)).unwrap();
            assert!(std::io::Read::read(&mut &near, &mut [0]).is_err());
        }),
    ]
}

#[test]
fn waits_do_not_go_by_the_time_of_day() {
    let _turn = TURN.lock();
    crore::run(|| {
        for years in [-20, 20, 0] {
            let today = SystemTime::now();
            let waits = waits();
            let far = crore::spawn(|| crore::sleep(LONG));
            crore::yield_now();
            JUMP.store(years * YEAR, Relaxed);
            assert_ne!(SystemTime::now() < today, years >= 0, "it did not jump");
            let before = ASKED.load(Relaxed);
            for wait in waits {
                let took = wait.join().unwrap();
                // A time of day that is 20 years off would end them at once,
                // or never.
                assert!(took >= WAIT && took < LONG, "{took:?}");
            }
            assert_eq!(ASKED.load(Relaxed), before, "nobody asks for it");
            assert!(!far.is_finished());
            far.cancel();
            JUMP.store(0, Relaxed);
        }
    })
    .unwrap();
}

/// Who sleeps until a time of day gets what that was worth when he asked.
#[test]
fn until_a_time_of_day_means_as_it_is_now() {
    let _turn = TURN.lock();
    let sleeps = || {
        // SAFETY: all zeros are a time; places for times.
        unsafe {
            let mut until: libc::timespec = std::mem::zeroed();
            assert_eq!(clock_gettime(libc::CLOCK_REALTIME, &mut until), 0);
            until.tv_nsec += WAIT.as_nanos() as i64;
            until.tv_sec += until.tv_nsec / 1_000_000_000;
            until.tv_nsec %= 1_000_000_000;
            let start = Instant::now();
            let slept = libc::clock_nanosleep(
                libc::CLOCK_REALTIME,
                libc::TIMER_ABSTIME,
                &until,
                std::ptr::null_mut(),
            );
            let took = start.elapsed();
            assert!(
                slept == 0 && took < LONG && took + WAIT / 5 >= WAIT,
                "{took:?}"
            );
        }
    };
    for years in [0, 20, -20] {
        JUMP.store(years * YEAR, Relaxed);
        crore::run(sleeps).unwrap();
    }
    JUMP.store(0, Relaxed);
}
