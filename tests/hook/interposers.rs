//! Libraries that stand in for libc's functions, too (`LD_PRELOAD`): what goes through
//! them and what goes past, which is said; and clocks that show another time.
#![cfg(not(target_feature = "crt-static"))]

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
#[cfg(feature = "futex")]
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::common::whole_name;

/// Counts reads and passes them on; all clocks are ten years ahead.
const SOURCE: &str = r#"
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <time.h>
    #include <unistd.h>
    #include <sys/syscall.h>
    static int count;
    int reads(void) { return count; }
    ssize_t read(int fd, void *to, size_t n) {
        ssize_t (*next)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
        count++;
        return next(fd, to, n);
    }
    int clock_gettime(clockid_t clock, struct timespec *time) {
        int result = syscall(SYS_clock_gettime, clock, time);
        time->tv_sec += 10 * 365 * 24 * 3600;
        return result;
    }
"#;

/// Runs the test `name` once more, as `body`, with the library loaded; what it wrote to
/// standard error.
fn preloaded(name: &str, body: fn()) -> String {
    const MARK: &str = "CRORE_TEST_PRELOADED";
    if std::env::var_os(MARK).is_some() {
        body();
        std::process::exit(0);
    }
    let folder = std::env::temp_dir().join(format!("crore-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (source, library) = (folder.join("interposer.c"), folder.join("interposer.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let mut compile = Command::new("cc");
    compile
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl");
    assert!(compile.status().unwrap().success());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &whole_name(name), "--nocapture"])
        .env(MARK, "1")
        .env("LD_PRELOAD", &library)
        .output()
        .unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{:?} {text}", output.status);
    text
}

fn reads() -> i32 {
    // SAFETY: the library's function, of this type.
    unsafe {
        let reads = libc::dlsym(libc::RTLD_DEFAULT, c"reads".as_ptr());
        assert!(!reads.is_null());
        std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> i32>(reads)()
    }
}

/// Reads one byte that is there.
fn read_one() {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"x").unwrap();
    // SAFETY: a place for a byte.
    let got = unsafe { libc::read(near.as_raw_fd(), [0_u8].as_mut_ptr().cast(), 1) };
    assert_eq!(got, 1);
}

#[test]
fn calls_of_coroutines_go_past_an_interposer_which_is_said() {
    let text = preloaded(
        "calls_of_coroutines_go_past_an_interposer_which_is_said",
        || {
            let before = reads();
            read_one();
            assert_eq!(reads(), before + 1, "a plain thread's");
            crore::run(|| {
                assert!(crore::hook::enabled());
                let before = reads();
                read_one();
                let (mut near, mut far) = UnixStream::pair().unwrap();
                let reader = crore::spawn(move || near.read_exact(&mut [0]));
                crore::yield_now();
                far.write_all(b"x").unwrap();
                reader.join().unwrap().unwrap();
                assert_eq!(reads(), before, "coroutines'");
                crore::unhooked(read_one);
                assert_eq!(reads(), before + 1, "unhooked code's");
            })
            .unwrap();
            crore::run(|| ()).unwrap();
        },
    );
    assert_eq!(
        text.matches("interposer.so stands in for read:").count(),
        1,
        "{text}"
    );
    assert_eq!(
        text.matches("FAKETIME_DONT_FAKE_MONOTONIC").count(),
        1,
        "{text}"
    );
}

/// All clocks that the program sees are others than the kernel's.
#[test]
fn waits_end_in_time_by_clocks_of_another_time() {
    preloaded("waits_end_in_time_by_clocks_of_another_time", || {
        // SAFETY: the process ends, should a wait not.
        unsafe { libc::alarm(60) };
        const SHORT: Duration = Duration::from_millis(20);
        let until = |clock| {
            // SAFETY: zeros are a time; places for times.
            unsafe {
                let mut until: libc::timespec = std::mem::zeroed();
                assert_eq!(libc::clock_gettime(clock, &mut until), 0);
                until.tv_sec += 1;
                until
            }
        };
        crore::run(|| {
            std::thread::sleep(SHORT);
            crore::sleep(SHORT);
            crore::park_timeout(SHORT);
            assert!(crore::timeout(SHORT, crore::park).is_err());
            let (near, _far) = UnixStream::pair().unwrap();
            near.set_read_timeout(Some(SHORT)).unwrap();
            assert!((&near).read(&mut [0]).is_err());
            for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC] {
                let (until, null) = (until(clock), std::ptr::null_mut());
                // SAFETY: a valid time.
                let slept =
                    unsafe { libc::clock_nanosleep(clock, libc::TIMER_ABSTIME, &until, null) };
                assert_eq!(slept, 0);
            }
            #[cfg(feature = "futex")]
            {
                let (lock, condition) = (Mutex::new(()), Condvar::new());
                let waited = condition.wait_timeout(lock.lock().unwrap(), SHORT);
                assert!(waited.unwrap().1.timed_out());
            }
        })
        .unwrap();
    });
}
