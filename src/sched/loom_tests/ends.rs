//! Models of the ends of descriptor numbers: a thread closes a number, or gives it to
//! another file, while a worker registers it, waits for it, reads the log, goes to sleep.
//!
//! All is production's: the generations (`sys/fd/table.rs`), the log (`ends.rs`), how it
//! is read (`inbox.rs`), and the driver, with files and an event queue in memory. All run
//! complete, without a bound on preemptions. `tests/mutants` breaks the code itself.

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use loom::sync::Mutex;
use loom::thread;

use crate::driver::{
    Backend, DeregisterFn, Direction, Driver, FileKind, MemoryBackend, Notifier, Outcome, Poller,
    Readiness, ReadyEvent, TimeSource, WaitKey, WatchError,
};
use crate::sched::inbox::{read_ends, renew_fd};
use crate::sched::{ends, renew_duplicate};
use crate::seam::FIRST;
use crate::shim::bell;
use crate::sys::fd::table;

const FD: RawFd = FIRST;

/// Files in memory, behind the kernel's lock: other threads have a turn before each call,
/// and who comes later sees what was done before.
#[derive(Clone, Debug)]
struct Kernel {
    files: MemoryBackend,
    lock: Arc<AssertUnwindSafe<Mutex<()>>>,
}

impl Kernel {
    fn new() -> Self {
        Self {
            files: MemoryBackend::new(),
            lock: Arc::new(AssertUnwindSafe(Mutex::new(()))),
        }
    }

    fn enter<T>(&self, call: impl FnOnce(&MemoryBackend) -> T) -> T {
        let _lock = self.lock.lock().expect("no call panics");
        call(&self.files)
    }

    fn open(&self, fd: RawFd) {
        self.enter(|files| files.open(fd, FileKind::Other));
    }

    /// As the hook does it: the number ends before the system call.
    fn close(&self, fd: RawFd) {
        renew_fd(fd);
        self.enter(|files| files.close(fd));
    }
}

impl Backend for Kernel {
    fn poller(&self) -> io::Result<Box<dyn Poller>> {
        let (kernel, queue) = (self.clone(), self.files.poller()?);
        Ok(Box::new(Queue { kernel, queue }))
    }

    fn time(&self) -> Option<Arc<dyn TimeSource>> {
        self.files.time()
    }
}

/// An event queue of the [`Kernel`].
#[derive(Debug)]
struct Queue {
    kernel: Kernel,
    queue: Box<dyn Poller>,
}

impl Poller for Queue {
    fn register(&mut self, fd: RawFd, serial: u32) -> Result<(), WatchError> {
        self.kernel.enter(|_| self.queue.register(fd, serial))
    }

    fn reregister(&mut self, fd: RawFd, serial: u32) -> Result<(), WatchError> {
        self.kernel.enter(|_| self.queue.reregister(fd, serial))
    }

    fn deregister(&mut self, fd: RawFd) {
        self.kernel.enter(|_| self.queue.deregister(fd));
    }

    fn wait(&mut self, block: bool, events: &mut Vec<ReadyEvent>) -> io::Result<bool> {
        self.kernel.enter(|_| self.queue.wait(block, events))
    }

    fn notifier(&self) -> Notifier {
        self.queue.notifier()
    }

    fn deregister_by_number(&self) -> DeregisterFn {
        self.queue.deregister_by_number()
    }

    fn arm(&mut self, delay: Duration) -> io::Result<()> {
        self.queue.arm(delay)
    }

    fn is_tcp_stream(&self, fd: RawFd) -> bool {
        self.queue.is_tcp_stream(fd)
    }
}

/// Notes who was told.
struct Told(std::sync::Mutex<Vec<RawFd>>);

struct Tells(Arc<Told>, RawFd);

impl Wake for Tells {
    fn wake(self: Arc<Self>) {
        self.0.0.lock().unwrap().push(self.1);
    }
}

/// What a worker has of all this.
struct Bed {
    kernel: Kernel,
    driver: Driver,
    ends: ends::Reader,
    told: Arc<Told>,
}

impl Bed {
    /// One that waits for these numbers.
    fn waiting(fds: &[RawFd]) -> (Self, Vec<WaitKey>) {
        let kernel = Kernel::new();
        let mut bed = Self {
            driver: Driver::new(&kernel).expect("it is in memory"),
            kernel,
            ends: ends::Reader::new(),
            told: Arc::new(Told(std::sync::Mutex::default())),
        };
        fds.iter().for_each(|&fd| bed.kernel.open(fd));
        let keys = fds.iter().map(|&fd| bed.wait(fd).unwrap()).collect();
        (bed, keys)
    }

    fn wait(&mut self, fd: RawFd) -> Result<WaitKey, WatchError> {
        let waker = Waker::from(Arc::new(Tells(Arc::clone(&self.told), fd)));
        self.driver.reactor.wait(fd, Direction::Read, waker)
    }

    fn thread(&self, does: impl FnOnce(&Kernel) + 'static) -> thread::JoinHandle<()> {
        let kernel = self.kernel.clone();
        thread::spawn(move || does(&kernel))
    }

    /// Reads the log to its end.
    fn read(&mut self) {
        let mut woken = Vec::new();
        read_ends(&self.ends, &mut self.driver, &mut woken);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Sleeps until the thread has ended, unless there is something to read. If it does
    /// and there is something then, it was woken.
    fn sleep(&mut self, thread: thread::JoinHandle<()>) {
        let thread = RefCell::new(Some(thread));
        let end = || thread.take().into_iter().for_each(|t| t.join().unwrap());
        let slept = self.ends.sleeping(end).is_some();
        end();
        let rung = bell::take();
        assert!(rung || !slept || !self.ends.is_behind(), "overslept");
    }

    /// What the driver finds by itself: validations that are due, and events.
    fn look(&mut self) {
        let mut woken = Vec::new();
        let now = self.driver.clock().moment();
        self.driver.poll(now, &mut woken).unwrap();
        self.driver.reactor.dispatch(usize::MAX, &mut woken);
        woken.into_iter().for_each(Waker::wake);
    }

    fn told(&self) -> Vec<RawFd> {
        let mut told = self.told.0.lock().unwrap().clone();
        told.sort_unstable();
        told
    }

    fn finish(mut self, keys: Vec<WaitKey>, outcome: Outcome) {
        for key in keys {
            assert_eq!(self.driver.reactor.table.finish(key), outcome);
        }
        self.read();
    }
}

/// The number that a worker waits for ends while it reads and goes to sleep.
#[test]
fn loom_an_end_is_not_slept_on() {
    loom::model(|| {
        let (mut bed, keys) = Bed::waiting(&[FD]);
        let closer = bed.thread(|kernel| kernel.close(FD));
        bed.read();
        bed.sleep(closer);
        bed.read();
        assert_eq!(bed.told(), [FD], "not told, or twice");
        bed.finish(keys, Outcome::Closed);
    });
}

/// Two threads end two numbers: each entry is there in the end, or all are looked at.
#[test]
fn loom_two_that_end_numbers() {
    loom::model(|| {
        let (mut bed, keys) = Bed::waiting(&[FD, FD + 1]);
        let closers = [FD, FD + 1].map(|fd| bed.thread(move |_| renew_fd(fd)));
        bed.read();
        closers
            .into_iter()
            .for_each(|closer| closer.join().unwrap());
        bed.read();
        assert_eq!(bed.told(), [FD, FD + 1], "not told, or twice");
        bed.finish(keys, Outcome::Closed);
    });
}

/// More numbers end than the log has entries, while a worker reads.
#[test]
fn loom_who_is_overtaken_looks_at_all() {
    loom::model(|| {
        let fds = [FD, FD + 1, FD + 2];
        let (mut bed, keys) = Bed::waiting(&fds);
        let closer = bed.thread(move |_| fds.into_iter().for_each(renew_fd));
        bed.read();
        closer.join().unwrap();
        bed.read();
        assert_eq!(bed.told(), fds, "not told, or twice");
        bed.finish(keys, Outcome::Closed);
    });
}

/// A number ends while it is registered. Who was registered in time is told by the log;
/// who came behind the end of the generation, and before the system call, by the next
/// validation.
#[test]
fn loom_an_end_while_it_registers() {
    loom::model(|| {
        let (mut bed, _) = Bed::waiting(&[]);
        // It was registered before: of one that never was, no end is noted.
        assert!(table::register(FD).is_some());
        renew_fd(FD);
        bed.read();
        bed.kernel.open(FD);
        let closer = bed.thread(|kernel| kernel.close(FD));
        let key = bed.wait(FD);
        bed.sleep(closer);
        bed.read();
        let Ok(key) = key else { return };
        let is_current = bed.driver.reactor.table.is_current(FD);
        assert!(is_current == bed.told().is_empty(), "waits in the past");
        bed.kernel.files.pass(Duration::from_millis(100));
        bed.look();
        assert_eq!(bed.told(), [FD], "not told, or twice");
        bed.driver.reactor.table.finish(key);
    });
}

/// A number becomes another file's while it is registered: who waits for that one hears
/// what comes there.
#[test]
fn loom_another_file_while_it_registers() {
    loom::model(|| {
        let (mut bed, _) = Bed::waiting(&[]);
        bed.kernel.open(FD);
        bed.kernel.open(FD + 1);
        let other = bed.thread(|kernel| {
            // `dup2`, as its hook does it.
            renew_fd(FD);
            kernel.enter(|files| files.dup(FD + 1, FD));
            renew_duplicate(FD + 1, FD);
        });
        let old = bed.wait(FD);
        other.join().unwrap();
        bed.read();
        // If it is not over, it waits for the new file already.
        old.map(|key| bed.driver.reactor.table.finish(key)).ok();
        let before = bed.told().len();
        let new = bed.wait(FD).expect("it is open");
        bed.kernel.files.set_ready(FD, Readiness::READABLE, true);
        bed.look();
        assert_eq!(bed.told().len(), before + 1, "deaf");
        let outcome = bed.driver.reactor.table.finish(new);
        assert_eq!(outcome, Outcome::Ready);
    });
}
