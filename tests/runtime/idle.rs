//! The promise: coroutines that wait cost no processor time.

use std::cell::Cell;
use std::io::{Read, Write};
#[cfg(feature = "hook")]
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "hook")]
use crore::JoinHandle;
use crore::{Builder, Coroutine, Handle, Runtime};

use crate::common::{in_child, succeeds};

/// Processor time that this process has used.
fn processor_time() -> Duration {
    // SAFETY: the struct is valid and outlives the call.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(
            libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time),
            0
        );
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// How often the worker woke within a time; prints that and the processor time.
fn turns_within(handle: &Handle, time: Duration) -> u64 {
    let (turns, start, used) = (handle.metrics().turns, Instant::now(), processor_time());
    thread::sleep(time);
    let (used, turns) = (processor_time() - used, handle.metrics().turns - turns);
    println!(
        "idle for {:.1?}: {used:.1?} of processor time, {turns} turns",
        start.elapsed()
    );
    turns
}

/// How often the worker woke while its coroutines waited, at last, if that was three times
/// at the most. Unparks `main` when it knows.
fn turns_while_idle(handle: Handle, main: Coroutine, time: Duration) -> Option<u64> {
    // The worker is idle when it has stopped turning: for long, since on a busy machine
    // it may only wait for a processor. One that never does is found below.
    let (mut turns, mut still) = (handle.metrics().turns, 0);
    for _ in 0..3000 {
        thread::sleep(Duration::from_millis(20));
        let before = std::mem::replace(&mut turns, handle.metrics().turns);
        still = if before == turns { still + 1 } else { 0 };
        if still == 20 {
            break;
        }
    }
    // Some seconds after they have parked their stacks are looked at, and then
    // no more.
    let mut measured = (0..5).map(|_| turns_within(&handle, time));
    let turns = measured.find(|turns| *turns <= 3);
    main.unpark();
    turns
}

/// Idles with 100 000 coroutines, half of them parked and half asleep; prints
/// the processor time.
fn turns_of_an_idle_worker(time: Duration) -> Option<u64> {
    let runtime = Runtime::builder().build().unwrap();
    let handle = runtime.handle();
    runtime
        .run(|| {
            let all: Vec<_> = (0..100_000)
                .map(|i| {
                    let builder = Builder::new().stack_size(32 * 1024);
                    builder.spawn(move || match i % 2 {
                        0 => crore::park(),
                        _ => crore::park_timeout(Duration::from_secs(3600)),
                    })
                })
                .collect::<Result<_, _>>()
                .unwrap();
            crore::yield_now();
            let main = crore::current();
            let watcher = thread::spawn(move || turns_while_idle(handle, main, time));
            crore::park();
            for handle in &all {
                assert!(!handle.is_finished());
                handle.coroutine().unpark();
            }
            all.into_iter().for_each(|handle| handle.join().unwrap());
            watcher.join().unwrap()
        })
        .unwrap()
}

#[test]
fn a_hundred_thousand_waiting_coroutines_do_nothing() {
    if !crate::common::may_have_stacks(100_000) {
        return;
    }
    // In a process of its own: a descriptor that another test closes is news
    // to all workers.
    succeeds("a_hundred_thousand_waiting_coroutines_do_nothing", || {
        // An hour-long timer may need sorting into a finer wheel now and then.
        let turns = turns_of_an_idle_worker(Duration::from_secs(2));
        assert!(turns.is_some(), "it goes on waking");
    });
}

#[test]
#[ignore = "takes ten seconds; prints the figure of the README"]
fn ten_seconds_of_nothing() {
    let turns = turns_of_an_idle_worker(Duration::from_secs(10));
    assert!(turns.is_some(), "it goes on waking");
}

/// Who waits to write is told when it can, and does not ask meanwhile.
#[cfg(feature = "hook")]
#[test]
fn writers_that_wait_do_nothing() {
    fn writer<S: Write + Send + 'static>(mut stream: S) -> JoinHandle<std::io::Result<()>> {
        crore::spawn(move || stream.write_all(&vec![0; 64 << 20]))
    }
    succeeds("writers_that_wait_do_nothing", || {
        let runtime = Runtime::builder().build().unwrap();
        let handle = runtime.handle();
        let turns = runtime.run(|| {
            let (near, far) = UnixStream::pair().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let peer = listener.accept().unwrap();
            let writers = [writer(near), writer(stream)];
            let main = crore::current();
            let watcher =
                thread::spawn(move || turns_while_idle(handle, main, Duration::from_secs(1)));
            crore::park();
            assert!(writers.iter().all(|writer| !writer.is_finished()));
            drop((far, peer));
            for writer in writers {
                writer.join().unwrap().unwrap_err();
            }
            watcher.join().unwrap()
        });
        assert!(turns.unwrap().is_some(), "it goes on asking");
    });
}

/// Hundreds of descriptors become ready at once while others never stop: their
/// events are delivered a few at a time, and yet all of them.
#[test]
fn events_reach_everybody_beside_those_who_never_wait() {
    // Others count on their descriptors, of which it has many.
    let name = "events_reach_everybody_beside_those_who_never_wait";
    let output = in_child(name, events_beside_those_who_never_wait);
    assert!(output.status.success(), "{output:?}");
}

fn events_beside_those_who_never_wait() {
    const READERS: usize = 500;
    const BUSY: usize = 200;
    let read = Rc::new(Cell::new(0));
    let left = Rc::clone(&read);
    crore::run(move || {
        let (mut near, far): (Vec<_>, Vec<_>) =
            (0..READERS).map(|_| UnixStream::pair().unwrap()).unzip();
        for mut stream in far {
            let read = Rc::clone(&read);
            crore::spawn_local(move || {
                crore::io::readable(&stream).unwrap();
                stream.read_exact(&mut [0]).unwrap();
                read.set(read.get() + 1);
            });
        }
        crore::yield_now();
        for _ in 0..BUSY {
            let read = Rc::clone(&read);
            crore::spawn_local(move || {
                while read.get() < READERS {
                    crore::yield_now();
                }
            });
        }
        let writer = thread::spawn(move || {
            near.iter_mut()
                .for_each(|stream| stream.write_all(b"x").unwrap());
            near
        });
        while read.get() < READERS {
            crore::yield_now();
        }
        writer.join().unwrap()
    })
    .unwrap();
    assert_eq!(left.get(), READERS);
}
