//! The rows of the hooks' table about processes and threads: waiting for
//! children, fork and its kin, joining threads.

// They are waited for by number, which the lint does not see.
#![allow(clippy::zombie_processes)]

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::succeeds;
use crate::hook_common::{On, in_coroutines, said, same, tcp_pair};

/// A child that ends with `code` when its standard input ends.
fn child(code: i32) -> std::process::Child {
    Command::new("sh")
        .args(["-c", &format!("read x; exit {code}")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn waiting_for_a_child() {
    if !crate::common::kernel_has(libc::SYS_pidfd_open) {
        return;
    }
    same(|on| {
        let mut out = Vec::new();
        for way in 0..5 {
            let mut child = child(way + 3);
            let pid = child.id() as i32;
            let input = child.stdin.take();
            let waits = on.go(move || {
                let mut status = 0;
                // SAFETY: places that live across the calls; zeros are valid.
                unsafe {
                    let mut usage: libc::rusage = std::mem::zeroed();
                    let mut info: libc::siginfo_t = std::mem::zeroed();
                    let answer = match way {
                        0 => libc::waitpid(pid, &mut status, 0),
                        1 => libc::waitpid(pid, &mut status, libc::WUNTRACED),
                        2 => libc::wait4(pid, &mut status, 0, &mut usage),
                        3 => libc::waitid(libc::P_PID, pid as u32, &mut info, libc::WEXITED),
                        _ => {
                            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
                            let kind = libc::P_PIDFD;
                            let answer = libc::waitid(kind, fd as u32, &mut info, libc::WEXITED);
                            libc::close(fd);
                            answer
                        }
                    };
                    let of_ours = info.si_pid() == pid || status != 0;
                    let again = said(libc::waitpid(pid, &mut status, 0) as isize);
                    (
                        answer == pid || answer == 0,
                        of_ours,
                        status,
                        info.si_status(),
                        again,
                    )
                }
            });
            let mut status = 0;
            // SAFETY: a place.
            let early = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
            drop(input);
            out.push((early, waits.join()));
        }
        // SAFETY: no places.
        out.push((0, unsafe {
            let none = std::ptr::null_mut();
            let gone = said(libc::waitid(libc::P_PID, 0, none, libc::WEXITED) as isize);
            let flags = said(libc::waitpid(1, std::ptr::null_mut(), 1 << 20) as isize);
            (gone.is_err(), flags.is_err(), 0, 0, gone)
        }));
        out
    });
}

#[test]
fn any_child_of_a_group_is_found() {
    in_coroutines(|_| {
        let mut quick = Command::new("sh");
        std::os::unix::process::CommandExt::process_group(&mut quick, 0);
        let quick = quick.args(["-c", "exit 9"]).spawn().unwrap();
        let group = quick.id() as i32;
        let waits = crore::spawn(move || {
            let mut status = 0;
            // SAFETY: a place.
            let pid = unsafe { libc::waitpid(-group, &mut status, 0) };
            (pid, libc::WEXITSTATUS(status))
        });
        assert_eq!(waits.join().unwrap(), (group, 9));
    });
}

#[test]
fn a_hundred_children_at_once() {
    in_coroutines(|_| {
        // The children read it to its end, which comes when all are waited
        // for: a wait that stopped the thread would never see it.
        let (gate, opener) = std::io::pipe().unwrap();
        let begun = Arc::new(AtomicU32::new(0));
        let all: Vec<_> = (0..100)
            .map(|i| {
                let (gate, begun) = (gate.try_clone().unwrap(), Arc::clone(&begun));
                crore::spawn(move || {
                    let sh = |script: &str| {
                        let mut command = Command::new("sh");
                        command.args(["-c", script]).stdin(gate);
                        begun.fetch_add(1, Ordering::SeqCst);
                        command
                    };
                    let code = i % 7;
                    match i % 3 {
                        0 => {
                            let script = format!("read x; echo {i}; echo no >&2; exit {code}");
                            let out = sh(&script).output().unwrap();
                            assert_eq!(out.stdout, format!("{i}\n").as_bytes());
                            assert_eq!(out.stderr, b"no\n");
                            out.status.code()
                        }
                        1 => {
                            let mut command = sh(&format!("read x; exit {code}"));
                            command.status().unwrap().code()
                        }
                        _ => {
                            let mut child = sh(&format!("read x; exit {code}")).spawn().unwrap();
                            child.wait().unwrap().code()
                        }
                    }
                })
            })
            .collect();
        while begun.load(Ordering::SeqCst) < 100 {
            crore::yield_now();
        }
        drop(opener);
        for (i, one) in all.into_iter().enumerate() {
            assert_eq!(one.join().unwrap(), Some(i as i32 % 7));
        }
    });
}

#[test]
fn signals_to_children_and_killed_children() {
    same(|on| {
        let mut child = child(0);
        let (pid, _input) = (child.id() as i32, child.stdin.take());
        // SAFETY: our own child.
        unsafe {
            libc::kill(pid, libc::SIGSTOP);
            let mut status = 0;
            let stopped = libc::waitpid(pid, &mut status, libc::WUNTRACED) == pid;
            let by = libc::WSTOPSIG(status);
            libc::kill(pid, libc::SIGCONT);
            let killer = on.go(move || libc::kill(pid, libc::SIGKILL));
            let ended = child.wait().unwrap();
            killer.join();
            (stopped, by, format!("{ended:?}"))
        }
    });
}

/// Runs `body` in a forked child and returns its exit code.
fn forked(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child has one thread and uses what is its own.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = body();
        // SAFETY: ends the child.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: our own child, a place.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        -libc::WTERMSIG(status)
    }
}

/// An echo over coroutines, with look-ups on helper threads.
fn runtime_works() -> bool {
    crore::run(|| {
        let (a, b) = tcp_pair();
        let echo = crore::spawn(move || {
            let mut word = [0; 4];
            (&b).read_exact(&mut word).unwrap();
            (&b).write_all(&word).unwrap();
        });
        (&a).write_all(b"ping").unwrap();
        let mut word = [0; 4];
        (&a).read_exact(&mut word).unwrap();
        echo.join().unwrap();
        let helped = crore::spawn_blocking(|| 7).join().unwrap();
        crore::sleep(Duration::from_millis(1));
        &word == b"ping" && helped == 7 && crore::hook::enabled()
    })
    .unwrap()
}

#[test]
fn a_forked_child_has_a_runtime_of_its_own() {
    // In a process of its own: std takes a lock where a thread begins, which another test's
    // may have when it is forked.
    let name = "a_forked_child_has_a_runtime_of_its_own";
    succeeds(name, || {
        assert!(runtime_works());
        assert_eq!(forked(|| i32::from(!runtime_works())), 0);
        in_coroutines(|_| {
            crore::spawn_blocking(|| ()).join().unwrap();
            let (a, b) = tcp_pair();
            let reader = crore::spawn(move || {
                let mut word = [0; 4];
                (&a).read_exact(&mut word).unwrap();
                word
            });
            crore::yield_now();
            // From within a coroutine, and again from that child's child.
            let nested =
                || i32::from(!runtime_works() || forked(|| i32::from(!runtime_works())) != 0);
            assert_eq!(forked(nested), 0);
            (&b).write_all(b"here").unwrap();
            assert_eq!(&reader.join().unwrap(), b"here");
        });
        assert!(runtime_works());
    });
}

/// What a child has of its parent's ids means none of its own tasks.
#[test]
fn a_parents_ids_mean_nothing_in_a_child() {
    // As above.
    let name = "a_parents_ids_mean_nothing_in_a_child";
    succeeds(name, || {
        in_coroutines(|_| {
            let old: Vec<_> = (0..10).map(|_| crore::spawn(crore::park)).collect();
            crore::yield_now();
            let in_child = || {
                let met = crore::run(|| {
                    let new: Vec<_> = (0..10).map(|_| crore::spawn(crore::park)).collect();
                    crore::yield_now();
                    old.iter().for_each(|old| old.coroutine().unpark());
                    old.iter().for_each(crore::JoinHandle::cancel);
                    // Who was met is awake by then.
                    crore::sleep(Duration::from_millis(1));
                    let met = new.iter().filter(|new| new.is_finished()).count();
                    new.iter().for_each(|new| new.coroutine().unpark());
                    met
                });
                met.unwrap() as i32
            };
            assert_eq!(forked(in_child), 0);
            old.iter().for_each(|old| old.coroutine().unpark());
        });
    });
}

#[test]
fn a_child_ends_when_the_coroutine_that_forked_returns() {
    in_coroutines(|_| {
        let (mut from_child, to_parent) = std::io::pipe().unwrap();
        let bystander = crore::spawn(crore::park);
        let forker = crore::spawn(move || {
            // SAFETY: the child returns, which ends it.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                (&to_parent).write_all(b"child").unwrap();
            }
            pid
        });
        let pid = forker.join().unwrap();
        let mut status = 0;
        // SAFETY: our own child, a place.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        let mut said = String::new();
        from_child.read_to_string(&mut said).unwrap();
        assert_eq!(said, "child");
        bystander.coroutine().unpark();
        bystander.join().unwrap();
    });
}

#[test]
fn joining_threads() {
    same(|on| {
        let handle = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            5
        });
        let other = on.go(|| std::thread::spawn(|| panic!("a thread's")).join().is_err());
        (handle.join().unwrap(), other.join())
    });
    in_coroutines(|_| {
        static ALIVE: AtomicU32 = AtomicU32::new(0);
        let waits: Vec<_> = (0..200)
            .map(|i| {
                let thread = std::thread::spawn(move || {
                    ALIVE.fetch_add(1, Ordering::SeqCst);
                    i
                });
                crore::spawn(move || thread.join().unwrap())
            })
            .collect();
        let sum: i32 = waits.into_iter().map(|one| one.join().unwrap()).sum();
        assert_eq!((sum, ALIVE.load(Ordering::SeqCst)), (19900, 200));
        // SAFETY: joining oneself is refused.
        let itself = unsafe { libc::pthread_join(libc::pthread_self(), std::ptr::null_mut()) };
        assert_eq!(itself, libc::EDEADLK);
    });
}

/// The thread ends only when another coroutine of the same worker has run.
#[test]
fn a_cancelled_join_waits_on_and_stops_nobody() {
    in_coroutines(|_| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || receiver.recv().unwrap());
        let joiner = crore::spawn(move || thread.join().unwrap());
        crore::yield_now();
        joiner.cancel();
        for _ in 0..3 {
            crore::sleep(Duration::from_millis(1));
        }
        sender.send(7).unwrap();
        assert_eq!(joiner.join().unwrap(), 7);
    });
}

/// Nobody can wait for its end, so nobody does: it may never come.
#[test]
fn a_detached_thread_is_not_joined() {
    same(|_| {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || ended.recv().unwrap_err());
        let number = std::os::unix::thread::JoinHandleExt::as_pthread_t(&thread);
        // Detaches it; it goes on until `end` is gone.
        drop(thread);
        // SAFETY: a thread that lives.
        let answer = unsafe { libc::pthread_join(number, std::ptr::null_mut()) };
        drop(end);
        answer
    });
}

#[test]
fn coroutines_can_opt_out() {
    in_coroutines(|_| {
        let (a, b) = tcp_pair();
        let seen = crore::Builder::new()
            .unhooked(true)
            .spawn(move || {
                let begun = Instant::now();
                a.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
                let timed_out = (&a).read(&mut [0]).is_err();
                (timed_out, begun.elapsed() >= Duration::from_millis(30))
            })
            .unwrap();
        let turns = crore::spawn(|| {
            // Has its turn before or after, but not while the thread blocks.
            crore::yield_now();
        });
        assert_eq!(seen.join().unwrap(), (true, true));
        turns.join().unwrap();
        assert_eq!(crore::unhooked(|| 3), 3);
        drop(b);
    });
    let _ = On::Threads;
}
