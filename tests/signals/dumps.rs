//! The promise: a dump is written whenever the signal comes that was named for it.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process;

use crore::signal::SIGUSR1;
use crore::{Builder, Runtime};

use crate::common::succeeds;

/// Reads until the name was said so often.
fn read_until(stream: &mut UnixStream, name: &str, times: usize) -> String {
    let mut said = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&said).into_owned();
        if text.matches(name).count() >= times {
            return text;
        }
        let mut some = [0; 4096];
        let n = stream.read(&mut some).unwrap();
        assert!(n > 0, "{text}");
        said.extend_from_slice(&some[..n]);
    }
}

#[test]
fn each_signal_is_answered_by_a_dump_and_the_program_goes_on() {
    succeeds(
        "each_signal_is_answered_by_a_dump_and_the_program_goes_on",
        || {
            let (reads, writes) = UnixStream::pair().unwrap();
            // SAFETY: no memory; of this child's standard error nothing else is needed.
            unsafe { libc::dup2(writes.as_raw_fd(), libc::STDERR_FILENO) };
            let runtime = Runtime::builder().dump_on_signal(SIGUSR1).build().unwrap();
            // Twice: it is heard in each run.
            for _ in 0..2 {
                runtime
                    .run(|| {
                        let idler = Builder::new().name("idler".into());
                        let idler = idler.spawn(crore::park).unwrap();
                        crore::yield_now();
                        for _ in 0..2 {
                            let mut theirs = reads.try_clone().unwrap();
                            let read = crore::spawn_blocking(move || {
                                read_until(&mut theirs, "'idler'", 1)
                            });
                            // SAFETY: no memory.
                            unsafe { libc::kill(process::id() as i32, SIGUSR1) };
                            let text = read.join().unwrap();
                            let head = format!("crore: signal {SIGUSR1}: 2 coroutines: 2 parked\n");
                            assert!(text.contains(&head), "{text}");
                        }
                        idler.coroutine().unpark();
                    })
                    .unwrap();
            }
        },
    );
}

#[test]
fn a_signal_that_nobody_can_wait_for_is_an_error_of_the_run() {
    let runtime = Runtime::builder()
        .dump_on_signal(libc::SIGKILL)
        .build()
        .unwrap();
    assert!(runtime.run(|| ()).is_err());
}
