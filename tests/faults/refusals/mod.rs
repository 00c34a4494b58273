//! The promise: what the kernel refuses is an error of who asked, in words, or
//! is done without; nobody else is harmed, and what was waiting goes on.
//!
//! Each test runs in a child process whose thread is under a seccomp filter.
// Much of it waits in std::net and std::thread::sleep.
#![cfg(feature = "hook")]

mod absent;
mod files;
mod numbers_and_threads;
mod seccomp;
mod waits;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::succeeds;
use crore::{Builder, Runtime};
use seccomp::{Rule, When, always, no_reserves, refuse};

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// A coroutine that goes on all the time; ends when told to.
fn bystander() -> (crore::JoinHandle<u64>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let mut theirs = near;
    let echo = crore::spawn(move || {
        let (mut count, mut byte) = (0, [0]);
        while theirs.read(&mut byte).unwrap() == 1 {
            theirs.write_all(&byte).unwrap();
            count += 1;
        }
        count
    });
    (echo, far)
}

fn ping(stream: &mut (impl Read + Write)) {
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_full_file_table_is_an_error_of_accept_and_connect() {
    succeeds(
        "a_full_file_table_is_an_error_of_accept_and_connect",
        || {
            // A thread of its own is not under the filter.
            let (give, take) = mpsc::channel::<TcpListener>();
            let helper = thread::spawn(move || {
                let (mut stream, _) = take.recv().unwrap().accept().unwrap();
                stream.write_all(b"late").unwrap();
            });
            crore::run(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let waiting = TcpStream::connect(address).unwrap();
                let mut client = waiting.try_clone().unwrap();
                let (echo, mut far) = bystander();
                ping(&mut far);
                let full = libc::ENFILE;
                refuse(&[
                    always(libc::SYS_accept4, full),
                    always(libc::SYS_socket, full),
                ]);
                for _ in 0..3 {
                    assert_eq!(code(listener.accept()), Some(full));
                    assert_eq!(code(TcpStream::connect(address)), Some(full));
                    ping(&mut far);
                }
                // The connection that could not be accepted is still there.
                give.send(listener).unwrap();
                let mut word = String::new();
                client.read_to_string(&mut word).unwrap();
                assert_eq!(word, "late");
                drop(far);
                assert_eq!(echo.join().unwrap(), 4);
            })
            .unwrap();
            helper.join().unwrap();
        },
    );
}

#[test]
fn no_reactor_is_an_error_of_the_run() {
    succeeds("no_reactor_is_an_error_of_the_run", || {
        let calls = [
            libc::SYS_epoll_create1,
            libc::SYS_eventfd2,
            libc::SYS_timerfd_create,
        ];
        for call in calls {
            for error in [libc::ENFILE, libc::ENOMEM] {
                let runtime = Runtime::builder().build().unwrap();
                let run = move || {
                    refuse(&[always(call, error)]);
                    let error = runtime.run(|| ()).unwrap_err().to_string();
                    (error, runtime)
                };
                let (text, runtime) = thread::spawn(run).join().unwrap();
                assert!(text.contains("cannot create a worker's reactor"), "{text}");
                let words = io::Error::from_raw_os_error(error).to_string();
                assert!(text.contains(&words), "{text}");
                // Where there is one, the same runtime runs.
                runtime.run(|| ()).unwrap();
            }
        }
    });
}

#[test]
fn no_memory_for_stacks_is_an_error_of_the_join() {
    succeeds("no_memory_for_stacks_is_an_error_of_the_join", || {
        crore::run(|| {
            let (echo, mut far) = bystander();
            ping(&mut far);
            refuse(&no_reserves());
            for size in [96 << 10, 128 << 10] {
                for _ in 0..3 {
                    let builder = Builder::new().stack_size(size);
                    let error = builder.spawn(|| ()).unwrap().join().unwrap_err();
                    let text = error.to_string();
                    assert!(text.contains("could not start"), "{text}");
                    assert!(text.contains("ulimit -v"), "{text}");
                }
            }
            // Stacks of the size that there is are not concerned.
            assert_eq!(crore::spawn(|| 5).join().unwrap(), 5);
            ping(&mut far);
            drop(far);
            assert_eq!(echo.join().unwrap(), 2);
        })
        .unwrap();
    });
}

/// Stacks and saved frames ask for room for as many as there may be, and take
/// a quarter, and a quarter of that.
#[test]
fn little_address_space_is_made_do_with() {
    succeeds("little_address_space_is_made_do_with", || {
        let runtime = Runtime::builder().max_coroutines(1_000).build().unwrap();
        // 4 GiB and more.
        refuse(&[Rule {
            call: libc::SYS_mmap,
            when: When::UpperAtLeast(1, 1),
            error: libc::ENOMEM,
        }]);
        let body = || {
            let own: Vec<_> = (0..100)
                .map(|_| crore::spawn_local(crore::yield_now))
                .collect();
            // SAFETY: the closure hands out no reference to its frames.
            let shared = (0..100).map(|_| unsafe { crore::spawn_shared(crore::yield_now) });
            own.into_iter()
                .chain(shared)
                .for_each(|one| one.join().unwrap());
        };
        runtime.run(body).unwrap();
        let reserved = runtime.metrics().stacks_reserved;
        assert!(reserved >= 100, "{reserved}");
    });
}

#[test]
fn no_memory_for_saved_frames_is_an_error_of_the_join() {
    succeeds("no_memory_for_saved_frames_is_an_error_of_the_join", || {
        // Shared stacks are as large as main's, for which there is room: it is
        // their frames that there is none for.
        let runtime = Runtime::builder().max_stacks(16).build().unwrap();
        let body = || {
            refuse(&no_reserves());
            for _ in 0..3 {
                // SAFETY: the closure hands out no reference to its frames.
                let shared = unsafe { crore::spawn_shared(crore::yield_now) };
                let text = shared.join().unwrap_err().to_string();
                assert!(text.contains("could not start"), "{text}");
                assert!(text.contains("ulimit -v"), "{text}");
            }
            // The worker counts when it looks around.
            crore::sleep(Duration::from_millis(1));
            let metrics = crore::Handle::current().unwrap().metrics();
            assert_eq!(metrics.stacks_in_use, 1, "main's: none was lost");
        };
        runtime.run(body).unwrap();
    });
}

/// No `poll` before a wait of which the outcome is known, nor after it.
#[test]
fn a_stream_that_was_read_is_waited_for_without_a_question() {
    succeeds(
        "a_stream_that_was_read_is_waited_for_without_a_question",
        || {
            crore::run(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (mut near, _) = listener.accept().unwrap();
                let echo = crore::spawn(move || {
                    let mut word = [0; 64];
                    for _ in 0..103 {
                        crore::io::readable(&near).unwrap();
                        let n = near.read(&mut word).unwrap();
                        near.write_all(&word[..n]).unwrap();
                    }
                });
                // Until the reactor knows the descriptor.
                for _ in 0..3 {
                    ping(&mut far);
                }
                refuse(&[always(libc::SYS_ppoll, libc::ENOMEM)]);
                for _ in 0..100 {
                    ping(&mut far);
                }
                echo.join().unwrap();
            })
            .unwrap();
        },
    );
}

/// As many coroutines as there are slots for, and no more.
#[test]
fn no_memory_for_more_slots_is_an_error_of_the_spawn() {
    let said = succeeds("no_memory_for_more_slots_is_an_error_of_the_spawn", || {
        let runtime = Runtime::builder().build().unwrap();
        let body = || {
            crore::spawn(|| ()).join().unwrap();
            refuse(&[Rule {
                call: libc::SYS_mprotect,
                when: When::AtLeast(1, 2 << 20),
                error: libc::ENOMEM,
            }]);
            let mut all = Vec::new();
            let error = loop {
                match Builder::new().spawn_future(async {}) {
                    Ok(one) => all.push(one),
                    Err(error) => break error,
                }
            };
            let text = error.to_string();
            assert!(text.contains("coroutines, the most it may have"), "{text}");
            // All but our own.
            assert_eq!(all.len(), (1 << 16) - 1);
            all.into_iter().for_each(|each| each.join().unwrap());
            crore::spawn(|| ()).join().unwrap();
        };
        runtime.run(body).unwrap();
    });
    assert!(
        said.contains("no room for more than 65536 coroutines"),
        "{said}"
    );
    assert!(said.contains("ulimit -d"), "{said}");
}

#[test]
fn no_memory_for_slots_is_an_error_of_the_run() {
    succeeds("no_memory_for_slots_is_an_error_of_the_run", || {
        let runtime = Runtime::builder().build().unwrap();
        let run = move || {
            refuse(&no_reserves());
            (runtime.run(|| ()).unwrap_err(), runtime)
        };
        let (error, runtime) = thread::spawn(run).join().unwrap();
        assert!(error.to_string().contains("address space"), "{error}");
        runtime.run(|| ()).unwrap();
    });
}

#[test]
fn guard_pages_are_made_the_old_way_or_the_start_fails() {
    succeeds(
        "guard_pages_are_made_the_old_way_or_the_start_fails",
        || {
            let no_advice = || Rule {
                call: libc::SYS_madvise,
                when: When::Is(2, 102),
                error: libc::EINVAL,
            };
            let run = move || {
                refuse(&[no_advice()]);
                crore::run(|| crore::spawn(|| 5).join().unwrap()).unwrap()
            };
            assert_eq!(thread::spawn(run).join().unwrap(), 5);
            let run = move || {
                crore::run(|| {
                    let protect = always(libc::SYS_mprotect, libc::ENOMEM);
                    refuse(&[no_advice(), protect]);
                    let builder = Builder::new().stack_size(96 << 10);
                    let error = builder.spawn(|| ()).unwrap().join().unwrap_err();
                    error.to_string()
                })
                .unwrap()
            };
            let text = thread::spawn(run).join().unwrap();
            assert!(text.contains("could not start"), "{text}");
        },
    );
}

#[test]
fn a_full_epoll_is_done_without() {
    let text = succeeds("a_full_epoll_is_done_without", || {
        crore::run(|| {
            // Known to the kernel before it was full.
            let (echo, mut far) = bystander();
            ping(&mut far);
            refuse(&[Rule {
                call: libc::SYS_epoll_ctl,
                when: When::Is(1, libc::EPOLL_CTL_ADD as u32),
                error: libc::ENOSPC,
            }]);
            // Reads, writes that wait, accepts, connects, polls.
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = crore::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                stream.write_all(&all).unwrap();
                all.len()
            });
            let mut client = TcpStream::connect(address).unwrap();
            let bytes: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
            let copy = bytes.clone();
            let mut sender = client.try_clone().unwrap();
            let sent = crore::spawn(move || {
                sender.write_all(&copy).unwrap();
                sender.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut back = Vec::new();
            client.read_to_end(&mut back).unwrap();
            assert!(back == bytes);
            sent.join().unwrap();
            assert_eq!(server.join().unwrap(), bytes.len());
            // Several at once, in `poll`.
            waits::poll_two();
            // Limits and cancellations are felt as ever.
            let (near, _far) = UnixStream::pair().unwrap();
            let limit = Some(Duration::from_millis(20));
            near.set_read_timeout(limit).unwrap();
            assert_eq!(code((&near).read(&mut [0])), Some(libc::EAGAIN));
            near.set_read_timeout(None).unwrap();
            let reader = crore::spawn(move || code((&near).read(&mut [0])));
            crore::yield_now();
            reader.cancel();
            assert_eq!(reader.join().unwrap(), Some(libc::ECANCELED));
            ping(&mut far);
            drop(far);
            assert_eq!(echo.join().unwrap(), 2);
        })
        .unwrap();
    });
    let told = text.matches("raise fs.epoll.max_user_watches").count();
    assert_eq!(told, 1, "{text}");
}

/// `poll` and `select` with no time left are interrupted all the same by a
/// signal in that moment; the hooks ask so all the time.
#[test]
fn a_question_that_does_not_wait_is_never_interrupted() {
    succeeds("a_question_that_does_not_wait_is_never_interrupted", || {
        crore::run(|| {
            let storm = waits::Storm::begin(Duration::from_micros(50));
            let (near, _far) = UnixStream::pair().unwrap();
            while storm.count() < 5_000 {
                waits::nothing_to_read(&near);
            }
        })
        .unwrap();
    });
}

#[test]
fn every_kind_of_wait_survives_a_storm_of_signals() {
    succeeds("every_kind_of_wait_survives_a_storm_of_signals", || {
        // A worker that is blocked for good ends by this.
        thread::spawn(|| {
            thread::sleep(Duration::from_secs(120));
            eprintln!("a wait was lost");
            std::process::abort();
        });
        crore::run(|| {
            let storm = waits::Storm::begin(Duration::from_micros(200));
            let all = waits::all();
            // Each until the signals have had their chances.
            let handles: Vec<_> = all
                .into_iter()
                .map(|(name, wait)| {
                    crore::spawn(move || {
                        let (mut rounds, start) = (0, Instant::now());
                        while rounds < 20 || storm.count() < 3_000 {
                            wait();
                            rounds += 1;
                        }
                        (name, rounds, start.elapsed())
                    })
                })
                .collect();
            for handle in handles {
                let (name, rounds, _) = handle.join().unwrap();
                assert!(rounds >= 20, "{name}");
            }
        })
        .unwrap();
    });
}
