//! The promise: one coroutine of any kind waits for its socket, channels, a time, the end
//! of others, signals and its own end; what did not win has lost nothing; and a turn
//! allocates nothing.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crore::io::Io;
use crore::sync::{broadcast, channel, oneshot, watch};
use crore::{Builder, CancelToken, Runtime};

use common::has_own_locals;

const LONG: Duration = Duration::from_secs(3600);

/// Counts what this thread allocates; with own thread-locals, this coroutine.
struct Counting;

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

// SAFETY: the system's allocator; the count is a thread-local that needs no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's block, from `alloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `test` with a function that spawns, for each kind of coroutine.
fn with_each_kind(test: impl Fn(&str, fn(Box<dyn FnOnce() + Send>) -> crore::JoinHandle<()>)) {
    crore::run(|| {
        test("own stack", |f| Builder::new().spawn(f).unwrap());
        // SAFETY: the bodies here share nothing that lies in their frames.
        test("shared stack", |f| unsafe {
            Builder::new().spawn_shared(f).unwrap()
        });
        if has_own_locals() {
            test("own thread-locals", |f| {
                Builder::new().own_thread_locals(true).spawn(f).unwrap()
            });
        }
    })
    .unwrap();
}

/// What a connection has seen.
#[derive(Default)]
struct Seen {
    bytes: AtomicUsize,
    pushes: AtomicUsize,
    allocations: AtomicUsize,
}

const ROUNDS: usize = 400;
/// What is there after so many is counted on.
const WARM: usize = 200;

/// A connection of a push service: everything that it waits for is in one place.
fn serve(peer: UnixStream, pushes: channel::Receiver<u8>, seen: &Seen) {
    let mut peer = Io::new(peer).unwrap();
    let mut before = 0;
    for round in 0.. {
        if round == WARM {
            before = ALLOCATIONS.get();
        } else if round > WARM {
            let allocated = ALLOCATIONS.get() - before;
            seen.allocations.store(allocated as usize, Relaxed);
        }
        crore::select! {
            readable(&peer) => {
                let mut byte = [0];
                peer.read_exact(&mut byte).unwrap();
                seen.bytes.fetch_add(1, Relaxed);
                peer.write_all(&byte).unwrap();
            },
            recv(pushes) -> push => {
                seen.pushes.fetch_add(1, Relaxed);
                peer.write_all(&[push.unwrap()]).unwrap();
            },
            after(LONG) => panic!("an hour has passed"),
            cancelled() => return peer.write_all(b"goodbye").unwrap(),
        }
    }
}

#[test]
fn a_connection_is_one_coroutine_and_a_turn_allocates_nothing() {
    with_each_kind(|kind, spawn| {
        let (here, there) = UnixStream::pair().unwrap();
        let mut here = Io::new(here).unwrap();
        let (push, pushes) = channel::bounded(4);
        let token = CancelToken::new();
        let seen = Arc::new(Seen::default());
        let (theirs, counts) = (token.clone(), Arc::clone(&seen));
        let connection = spawn(Box::new(move || {
            theirs.bind(|| serve(there, pushes, &counts));
        }));
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                here.write_all(&[7]).unwrap();
            } else {
                push.send(7).unwrap();
            }
            let mut answer = [0];
            here.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [7], "{kind}");
        }
        token.cancel();
        connection.join().unwrap();
        let mut last = String::new();
        here.read_to_string(&mut last).unwrap();
        assert_eq!(last, "goodbye", "{kind}");
        assert_eq!(seen.bytes.load(Relaxed), ROUNDS / 2);
        assert_eq!(seen.pushes.load(Relaxed), ROUNDS / 2);
        assert_eq!(
            seen.allocations.load(Relaxed),
            0,
            "{kind}: a turn allocates"
        );
    });
}

/// Of several that can go on each is taken now and then.
#[test]
fn no_case_starves() {
    with_each_kind(|kind, spawn| {
        let (done, finished) = channel::bounded(1);
        let kind = kind.to_owned();
        spawn(Box::new(move || {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(b"!").unwrap();
            let (tx, rx) = channel::unbounded();
            let (news, mut watching) = broadcast::channel(4);
            let token = CancelToken::new();
            token.cancel();
            let mut taken = [0; 5];
            for _ in 0..1_000 {
                if rx.is_empty() {
                    tx.send(1).unwrap();
                }
                let _ = news.send(1);
                let won = crore::select! {
                    readable(&reader) => 0,
                    recv(rx) -> value => value.unwrap(),
                    recv(watching) => 2,
                    after(Duration::ZERO) => 3,
                    cancelled(token) => 4,
                };
                taken[won] += 1;
            }
            assert!(taken.iter().all(|&n| n > 50), "{kind}: {taken:?}");
            done.send(()).unwrap();
        }));
        finished.recv().unwrap();
    });
}

/// Nothing is received, joined or seen by a case that another was faster than.
#[test]
fn what_does_not_win_takes_nothing() {
    with_each_kind(|kind, spawn| {
        let kind = kind.to_owned();
        let body = spawn(Box::new(move || {
            let (one, other) = (channel::bounded(1), oneshot::channel());
            let (news, mut hears) = broadcast::channel(1);
            let (sets, mut sees) = watch::channel(0);
            let mut ended = crore::spawn(|| 5);
            while !ended.is_finished() {
                crore::yield_now();
            }
            one.0.send(1).unwrap();
            other.0.send(2).unwrap();
            news.send(3).unwrap();
            sets.send(4).unwrap();
            let (mut _keep, mut answer) = (None::<oneshot::Sender<i32>>, other.1);
            let rx = one.1;
            let mut got = Vec::new();
            for _ in 0..5 {
                crore::select! {
                    recv(rx) -> value => got.push(value.unwrap()),
                    recv(answer) -> value => {
                        got.push(value.unwrap());
                        // Nothing will come here.
                        let fresh = oneshot::channel();
                        (_keep, answer) = (Some(fresh.0), fresh.1);
                    },
                    recv(hears) -> value => got.push(value.unwrap()),
                    changed(sees) -> alive => {
                        alive.unwrap();
                        got.push(*sees.borrow());
                    },
                    join(ended) -> value => {
                        got.push(value.unwrap());
                        // A joined one has nothing more to give.
                        ended = crore::spawn(|| {
                            crore::park();
                            0
                        });
                    },
                    default => break,
                }
            }
            ended.cancel();
            got.sort_unstable();
            assert_eq!(got, [1, 2, 3, 4, 5], "{kind}");
        }));
        body.join().unwrap();
    });
}

/// A select whose cases can always go on gives way, as every wait does.
#[test]
fn a_select_that_never_waits_lets_others_run() {
    crore::run(|| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (tx, rx) = channel::bounded::<()>(1);
        drop(tx);
        let other = crore::spawn(move || writer.write_all(b"!"));
        while !other.is_finished() {
            crore::select! { recv(rx) => (), readable(&reader) => () }
        }
    })
    .unwrap();
}

/// Each kind of case wakes a select that waits.
#[test]
fn every_case_wakes() {
    with_each_kind(|kind, spawn| {
        let kind = kind.to_owned();
        let (tell, told) = channel::unbounded();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (tx, rx) = channel::bounded(1);
        let (full, empties) = channel::bounded(1);
        full.send(0).unwrap();
        let (answer, answered) = oneshot::channel();
        let (news, mut hears) = broadcast::channel(1);
        let (sets, mut sees) = watch::channel(0);
        let token = CancelToken::new();
        let theirs = token.clone();
        let own = CancelToken::new();
        let mine = own.clone();
        let body = spawn(Box::new(move || {
            mine.bind(|| {
                let mut ended = crore::spawn(|| crore::sleep(Duration::from_millis(1)));
                let _ = crore::select! { join(ended) -> _ => tell.send("join"), after(LONG) => Ok(()) };
                let _ = crore::select! { after(Duration::from_millis(1)) => tell.send("after") };
                let soon = Instant::now() + Duration::from_millis(1);
                let _ = crore::select! { at(soon) => tell.send("at"), recv(rx) => Ok(()) };
                let _ = crore::select! { recv(rx) -> _ => tell.send("recv"), after(LONG) => Ok(()) };
                let _ = crore::select! { send(full, 1) -> _ => tell.send("send"), after(LONG) => Ok(()) };
                let _ = crore::select! { recv(answered) -> _ => tell.send("oneshot"), after(LONG) => Ok(()) };
                let _ = crore::select! { recv(hears) -> _ => tell.send("broadcast"), after(LONG) => Ok(()) };
                let _ = crore::select! { changed(sees) -> _ => tell.send("watch"), after(LONG) => Ok(()) };
                let _ = crore::select! { readable(&reader) => tell.send("readable"), after(LONG) => Ok(()) };
                let _ = crore::select! { cancelled(theirs) => tell.send("token"), after(LONG) => Ok(()) };
                let _ = crore::select! { cancelled() => tell.send("cancelled"), after(LONG) => Ok(()) };
            });
        }));
        let next = |what: &str| assert_eq!(told.recv(), Ok(what), "{kind}");
        ["join", "after", "at"].into_iter().for_each(next);
        let waits = || (0..3).for_each(|_| crore::yield_now());
        waits();
        tx.send(1).unwrap();
        next("recv");
        waits();
        empties.recv().unwrap();
        next("send");
        waits();
        answer.send(1).unwrap();
        next("oneshot");
        waits();
        news.send(1).unwrap();
        next("broadcast");
        waits();
        sets.send(1).unwrap();
        next("watch");
        waits();
        writer.write_all(b"!").unwrap();
        next("readable");
        waits();
        token.cancel();
        next("token");
        waits();
        own.cancel();
        next("cancelled");
        body.join().unwrap();
    });
}

/// Cancelled for good while it waits: with an arm for that it may say so, without one it
/// unwinds; and what it waited for is free.
#[test]
fn a_cancelled_select_ends() {
    with_each_kind(|kind, spawn| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reader = Arc::new(reader);
        let (tx, rx) = channel::bounded(1);
        for arm in [true, false] {
            let (reader, rx) = (Arc::clone(&reader), rx.clone());
            let (tell, told) = channel::bounded(1);
            let body = spawn(Box::new(move || {
                if arm {
                    crore::select! {
                        readable(&*reader) => unreachable!(),
                        recv(rx) => unreachable!(),
                        cancelled() => tell.try_send(()).unwrap(),
                    }
                } else {
                    crore::select! {
                        readable(&*reader) => unreachable!(),
                        recv(rx) => unreachable!(),
                    }
                }
            }));
            (0..3).for_each(|_| crore::yield_now());
            body.cancel();
            assert_eq!(body.join().is_err(), !arm, "{kind}");
            assert_eq!(told.try_recv().is_ok(), arm, "{kind}");
        }
        tx.send(1).unwrap();
        assert_eq!(rx.recv(), Ok(1));
        writer.write_all(b"!").unwrap();
        crore::select! { readable(&*reader) => (), after(LONG) => unreachable!() }
    });
}

/// A limit around it, and descriptors that end while they are waited for.
#[test]
fn limits_and_closes_end_a_select() {
    crore::run(|| {
        let (reader, writer) = std::io::pipe().unwrap();
        let late = crore::timeout(Duration::from_millis(1), || {
            crore::select! { readable(&reader) => () }
        });
        assert!(late.is_err());
        crore::spawn(move || drop(writer));
        crore::select! { readable(&reader) => (), after(LONG) => unreachable!() }
        let (_tx, rx) = channel::bounded::<()>(1);
        crore::select! {
            recv(rx) -> _ => unreachable!(),
            default(Duration::from_millis(1)) => (),
        }
        // A regular file is always ready.
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        crore::select! { readable(&file) => (), after(LONG) => unreachable!() }
    })
    .unwrap();
}

#[test]
fn a_signal_is_a_case() {
    use crore::signal::SIGUSR2;
    crore::run(|| {
        // Handled from here on.
        crore::select! { signal(&[SIGUSR2]) -> _ => unreachable!(), default => () }
        let sender = crore::spawn_blocking(|| {
            let me = std::process::id().to_string();
            std::process::Command::new("kill")
                .args(["-USR2", &me])
                .status()
        });
        let signal = crore::select! {
            signal(&[SIGUSR2]) -> signal => signal.unwrap(),
            after(LONG) => 0,
        };
        assert_eq!(signal, SIGUSR2);
        drop(sender);
        let refused = crore::select! { signal(&[]) -> signal => signal };
        assert!(refused.is_err());
    })
    .unwrap();
}

/// On a plain thread everything but descriptors.
#[test]
fn a_thread_selects_what_needs_no_event_queue() {
    let (tx, rx) = channel::bounded::<u32>(1);
    crore::select! { recv(rx) -> _ => unreachable!(), after(Duration::from_millis(1)) => () }
    let token = CancelToken::new();
    let theirs = token.clone();
    let thread = std::thread::spawn(move || {
        crore::select! { recv(rx) -> _ => false, cancelled(theirs) => true, cancelled() => false }
    });
    token.cancel();
    assert!(thread.join().unwrap());
    drop(tx);
}

#[test]
#[should_panic(expected = "outside a coroutine")]
fn a_descriptor_on_a_thread_is_refused() {
    let (reader, _writer) = std::io::pipe().unwrap();
    crore::select! { readable(&reader) => () }
}

/// Many coroutines of several workers, all waiting for all there is.
#[test]
fn many_selects_lose_nothing() {
    const MANY: usize = 200;
    let runtime = Runtime::builder().workers(3).build().unwrap();
    runtime
        .run(|| {
            let (work, rx) = channel::bounded(8);
            let (results, done) = channel::unbounded();
            let (news, hears) = broadcast::channel(4);
            let end = CancelToken::new();
            let all: Vec<_> = (0..MANY)
                .map(|_| {
                    let (rx, results) = (rx.clone(), results.clone());
                    let mut hears = hears.clone();
                    let end = end.clone();
                    crore::spawn(move || {
                        loop {
                            crore::select! {
                                recv(rx) -> n => results.send(n.unwrap()).unwrap(),
                                recv(hears) -> _ => {},
                                cancelled(end) => return,
                            }
                        }
                    })
                })
                .collect();
            let sender = std::thread::spawn(move || {
                for n in 0..10_000_u32 {
                    work.send(n).unwrap();
                    if n % 100 == 0 {
                        let _ = news.send(n);
                    }
                }
                (work, news)
            });
            let mut got: Vec<u32> = (0..10_000).map(|_| done.recv().unwrap()).collect();
            got.sort_unstable();
            assert!(got.into_iter().eq(0..10_000));
            end.cancel();
            all.into_iter().for_each(|one| one.join().unwrap());
            drop(sender.join());
        })
        .unwrap();
}

/// What has its turn before all others: a read that is ready, too, would fail.
#[test]
fn its_own_end_is_looked_at_first() {
    with_each_kind(|kind, spawn| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"!").unwrap();
        let (tx, rx) = channel::bounded(1);
        tx.send(1).unwrap();
        let token = CancelToken::new();
        let theirs = token.clone();
        let kind = kind.to_owned();
        let body = spawn(Box::new(move || {
            let won = || {
                crore::select! {
                    readable(&reader) => "readable",
                    recv(rx) -> value => { tx.send(value.unwrap()).unwrap(); "recv" },
                    after(Duration::ZERO) => "after",
                    cancelled() => "cancelled",
                }
            };
            theirs.bind(|| {
                assert!((0..20).all(|_| won() != "cancelled"), "{kind}");
                theirs.cancel();
                assert!((0..20).all(|_| won() == "cancelled"), "{kind}");
            });
        }));
        body.join().unwrap();
    });
}

/// A closed channel can go on, with an error, each time; others have their turn.
#[test]
fn a_closed_channel_does_not_starve_the_others() {
    with_each_kind(|kind, spawn| {
        let (closed, ends) = channel::bounded::<u8>(1);
        let (_kept, never) = channel::bounded::<u8>(1);
        let (full, _rx) = channel::bounded(1);
        drop(closed);
        full.send(0).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"!").unwrap();
        let kind = kind.to_owned();
        let body = spawn(Box::new(move || {
            let mut turns = [0; 2];
            for _ in 0..500 {
                let won = crore::select! {
                    recv(never) -> _ => unreachable!(),
                    recv(ends) -> value => { assert!(value.is_err()); 0 },
                    send(full, 1) -> _ => unreachable!(),
                    readable(&reader) => 1,
                };
                turns[won] += 1;
            }
            assert!(turns.iter().all(|&n| n > 50), "{kind}: {turns:?}");
        }));
        body.join().unwrap();
    });
}

/// Who sends to a select that waits is told when that coroutine ends instead, and keeps
/// its value.
#[test]
fn a_receiver_that_ends_in_a_select_gives_the_value_back() {
    with_each_kind(|kind, spawn| {
        let (tx, rx) = channel::rendezvous();
        let (reader, _writer) = std::io::pipe().unwrap();
        let body = spawn(Box::new(move || {
            crore::select! {
                recv(rx) -> _ => unreachable!(),
                readable(&reader) => unreachable!(),
            }
        }));
        (0..3).for_each(|_| crore::yield_now());
        body.cancel();
        assert!(body.join().unwrap_err().is_cancelled(), "{kind}");
        assert_eq!(tx.send("kept").unwrap_err().0, "kept", "{kind}");
    });
}

/// What a panic of `f` says.
fn panic_of(f: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

#[test]
fn a_select_of_nothing_is_refused() {
    let nothing = || {
        assert_eq!(channel::try_select(&mut []), None);
        panic_of(|| {
            channel::select(&mut []);
        })
    };
    let said = "select without cases would wait for ever";
    assert_eq!(nothing(), said);
    assert_eq!(crore::run(nothing).unwrap(), said);
}

#[test]
fn a_value_is_sent_by_one_case_once() {
    let (tx, rx) = channel::unbounded();
    let mut case = tx.case(7);
    assert_eq!(channel::select(&mut [&mut case]), 0);
    assert!(case.take().unwrap().is_ok() && case.take().is_none());
    let said = panic_of(|| {
        channel::select(&mut [&mut case]);
    });
    assert!(said.contains("was sent already"), "{said}");
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [7]);
}

/// It is cancelled once, and may be bound, waited for and selected again and again.
#[test]
fn a_token_may_be_used_twice() {
    crore::run(|| {
        let (token, (reader, _writer)) = (CancelToken::new(), std::io::pipe().unwrap());
        let twice = || {
            token.bind(|| {
                token.bind(|| crore::select! { readable(&reader) => 1, cancelled(token) => 2, cancelled() => 3 })
            })
        };
        token.cancel();
        token.cancel();
        assert_eq!([twice(), twice()], [3, 3]);
        token.wait();
        drop(token.clone().drop_guard());
        assert!(token.is_cancelled() && token.child().child().is_cancelled());
        // Outside of `bind` nothing is left of it.
        crore::select! { cancelled() => unreachable!(), default => () }
    })
    .unwrap();
}
