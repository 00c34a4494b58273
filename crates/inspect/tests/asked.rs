//! The promise: a program is looked into from outside while it runs, and goes on.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process;
use std::sync::Mutex;
use std::thread;

use crore_inspect::{Question, ask};

/// One runtime of a process is served at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs `body` with a runtime that is served.
fn served(workers: usize, body: impl FnOnce() + Send) {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let builder = crore::Runtime::builder().workers(workers).watchdog(None);
    let runtime = builder.build().unwrap();
    let inspected = crore_inspect::serve(runtime.handle()).unwrap();
    runtime.run(body).unwrap();
    drop(inspected);
    let gone = ask(process::id(), Question::Dump).unwrap_err();
    assert_eq!(gone.kind(), std::io::ErrorKind::ConnectionRefused, "{gone}");
}

fn asked(question: Question) -> String {
    // As another process would.
    crore::spawn_blocking(move || ask(process::id(), question))
        .join()
        .unwrap()
        .unwrap()
}

#[test]
fn a_dump_has_those_that_are_parked_by_name() {
    served(2, || {
        let spawn = || {
            let builder = crore::Builder::new().name("idler".into());
            builder.spawn(crore::park).unwrap()
        };
        let idlers: Vec<_> = (0..10).map(|_| spawn()).collect();
        let mut text = asked(Question::Dump);
        while !text.contains("\n10 parked") {
            text = asked(Question::Dump);
        }
        assert!(text.starts_with("11 coroutines: "), "{text}");
        assert!(text.contains("'idler' "), "{text}");
        let json = asked(Question::Json);
        assert!(json.starts_with('{') && json.ends_with("}\n"), "{json}");
        assert_eq!(json.matches(r#""name":"idler""#).count(), 10, "{json}");
        idlers.iter().for_each(|one| one.coroutine().unpark());
        idlers.into_iter().for_each(|one| one.join().unwrap());
    });
}

#[test]
fn metrics_are_those_of_each_worker() {
    served(2, || {
        (0..100).for_each(|_| crore::spawn(|| ()).join().unwrap());
        let text = asked(Question::Metrics);
        let spawned = |worker: usize| -> u64 {
            let begin = format!("crore_spawned{{worker=\"{worker}\"}} ");
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(&begin));
            lines.next().unwrap().parse().unwrap()
        };
        assert!(spawned(0) + spawned(1) >= 101, "{text}");
    });
}

#[test]
fn a_profile_names_who_computes() {
    served(1, || {
        let asker = thread::spawn(|| ask(process::id(), Question::Profile).unwrap());
        while !asker.is_finished() {
            std::hint::black_box((0..1_000u64).sum::<u64>());
        }
        let text = asker.join().unwrap();
        assert!(text.lines().any(|line| line.starts_with("main;")), "{text}");
    });
}

#[test]
fn a_busy_worker_is_seen_from_outside() {
    served(1, || {
        let asker = thread::spawn(|| {
            loop {
                let text = ask(process::id(), Question::Dump).unwrap();
                if text.contains("1 running") {
                    return text;
                }
            }
        });
        // Computes until it has been seen.
        while !asker.is_finished() {
            std::hint::black_box((0..1_000u64).sum::<u64>());
        }
        let text = asker.join().unwrap();
        assert!(
            text.contains("a_busy_worker_is_seen_from_outside"),
            "{text}"
        );
    });
}

#[test]
fn who_asks_badly_keeps_nobody_else_from_an_answer() {
    served(1, || {
        let name = format!("crore/{}", process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        for question in ["nonsense\n", "", &"x".repeat(1_000)] {
            let mut stream = UnixStream::connect_addr(&address).unwrap();
            // It may be refused before all is written.
            let _ = stream.write_all(question.as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            assert!(text.is_empty() || text == "there is no such question\n");
        }
        assert!(asked(Question::Dump).contains("'main'"));
    });
}

#[test]
fn a_second_runtime_is_refused() {
    served(1, || {
        let runtime = crore::Runtime::builder().build().unwrap();
        let error = crore_inspect::serve(runtime.handle()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    });
}

/// As servers do that close all that they have not opened: what comes by that number is
/// theirs.
#[test]
fn a_number_that_the_program_has_closed_is_left_alone() {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let runtime = crore::Runtime::builder().build().unwrap();
    let inspected = crore_inspect::serve(runtime.handle()).unwrap();
    let is_served = || std::fs::read_to_string("/proc/net/unix").unwrap();
    let name = format!("@crore/{}", process::id());
    assert!(is_served().contains(&name));
    ask(process::id(), Question::Metrics).unwrap();
    let waits = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat"));
        stat.is_ok_and(|stat| stat.contains("(crore-inspect) S"))
    };
    while !std::fs::read_dir("/proc/self/task").unwrap().any(waits) {
        thread::yield_now();
    }
    let listener = (3..1024)
        .find(|&fd| {
            // SAFETY: a look at whatever has this number, which is not closed.
            let socket = unsafe {
                std::mem::ManuallyDrop::new(
                    <std::os::unix::net::UnixListener as std::os::fd::FromRawFd>::from_raw_fd(fd),
                )
            };
            let bound = socket.local_addr();
            bound.is_ok_and(|bound| bound.as_abstract_name() == Some(&name.as_bytes()[1..]))
        })
        .unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&other);
    // SAFETY: no memory; the number becomes the program's.
    assert_eq!(unsafe { libc::dup2(number, listener) }, listener);
    // At once, also where the thread waits for it: nobody is left to wait for.
    let refused = ask(process::id(), Question::Metrics).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let client = std::net::TcpStream::connect(other.local_addr().unwrap()).unwrap();
    let (_stream, from) = other.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    // Nor is it closed; and another may begin.
    drop(inspected);
    drop(crore_inspect::serve(runtime.handle()).unwrap());
    let _again = std::net::TcpStream::connect(other.local_addr().unwrap()).unwrap();
    // SAFETY: no memory; a look at whether the number is open.
    assert_ne!(unsafe { libc::fcntl(listener, libc::F_GETFD) }, -1);
}
