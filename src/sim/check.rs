//! Many seeds: each in a process of its own, where nothing of the ones before is left;
//! and the one that fails again, with fewer faults, where it can be looked at.

use std::env;
use std::ffi::{c_int, c_void};
use std::io::ErrorKind::WouldBlock;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, RwLock, RwLockReadGuard};
use std::thread::available_parallelism;
use std::time::Duration;

use super::Sim;
use super::caught::say_if_unwatched;
use super::escapes::{Escape, tell_escapes};
use super::trace::{Difference, EventEntry, HistoryProbe};
use crate::runtime::Runtime;
use crate::sched::CurrentTask;
use crate::sys::syscall::{Answer, sys, uninterrupted};

const SEED: &str = "CRORE_SIM_SEED";
const FAULTS: &str = "CRORE_SIM_FAULTS";

/// Runs in which the first of two that differ is looked for.
const TRIES: u32 = 10;

/// Calls `test` with a simulation of each seed, until one panics. Each seed has a child
/// process (a `fork`), as many at a time as there are processors: statics are fresh.
/// For the first that fails a small part of its faults is looked for that is enough, and
/// the test is called with that once more, in this process.
///
/// With the environment variable `CRORE_SIM_SEED` only that seed is run, in this
/// process; with `CRORE_SIM_FAULTS`, which a failure prints, too, only these faults of its
/// plan happen.
///
/// # Panics
///
/// With the panic of the seed that fails; how to run it again stands on standard error.
/// Called by a coroutine.
///
/// # Examples
///
/// ```
/// use std::net::UdpSocket;
///
/// crore::sim::check(0..20, |sim| {
///     sim.node("echo", || {
///         let socket = UdpSocket::bind("0.0.0.0:7").unwrap();
///         let mut bytes = [0; 100];
///         loop {
///             let (len, from) = socket.recv_from(&mut bytes).unwrap();
///             socket.send_to(&bytes[..len], from).unwrap();
///         }
///     })
///     .client("client", || {
///         let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
///         socket.connect("echo:7").unwrap();
///         socket.send(b"hello").unwrap();
///         let mut bytes = [0; 100];
///         assert_eq!(socket.recv(&mut bytes).unwrap(), 5);
///     })
///     .run();
/// });
/// ```
#[track_caller]
pub fn check(seeds: impl IntoIterator<Item = u64>, test: impl Fn(Sim)) {
    if let Some(seed) = number(SEED) {
        let mut sim = Sim::new(seed);
        sim.kept = env::var(FAULTS).ok().map(|text| numbers(&text));
        return test(sim);
    }
    prepare();
    let Some(seed) = first_failing(seeds.into_iter(), &test) else {
        return;
    };
    let all = SeedProcess::start(|| test(Sim::new(seed))).end().faults;
    let kept = shrink((0..all).collect(), |kept| {
        let run = || {
            let mut sim = Sim::new(seed);
            sim.kept = Some(kept.to_vec());
            test(sim);
        };
        SeedProcess::start(run).end().failed
    });
    let listed: Vec<_> = kept.iter().map(usize::to_string).collect();
    let listed = listed.join(",");
    eprintln!(
        "crore: the simulation of seed {seed} fails with {} of its {all} faults; to run it \
         again: {SEED}={seed} {FAULTS}={listed}",
        kept.len()
    );
    let mut sim = Sim::new(seed);
    sim.kept = Some(kept);
    test(sim);
    panic!(
        "seed {seed} failed in a process of its own, and does not here: something that is \
         not the simulation's has a part in it"
    );
}

/// Runs the test of each seed twice and compares the two histories event by event, in a
/// child process: other threads of this one would share locks of std's with it.
///
/// # Panics
///
/// At the first event that differs, with both, and their backtraces (of the first if a
/// third run has it, too): something escapes the simulation. And if the test fails. Called by
/// a coroutine.
///
/// # Examples
///
/// ```
/// crore::sim::check_repeats(0..3, |sim| {
///     sim.client("one", || {
///         let all: Vec<_> = (0..9).map(|n| std::thread::spawn(move || n)).collect();
///         all.into_iter().for_each(|one| drop(one.join()));
///     })
///     .run();
/// });
/// ```
#[track_caller]
pub fn check_repeats(seeds: impl IntoIterator<Item = u64>, test: impl Fn(Sim)) {
    prepare();
    for seed in seeds {
        let child = SeedProcess::start(|| compare(seed, &test));
        let ended = child.end();
        if ended.failed {
            panic!("seed {seed}: {}", ended.said);
        }
    }
}

fn compare(seed: u64, test: &impl Fn(Sim)) {
    let first = Arc::new(Mutex::new(HistoryProbe::Records(Vec::new())));
    run_probed(seed, test, &first);
    let HistoryProbe::Records(entries) = std::mem::take(&mut *first.lock().unwrap()) else {
        panic!("the test runs no simulation");
    };
    let entries: Arc<Vec<EventEntry>> = Arc::new(entries);
    let second = Arc::new(Mutex::new(HistoryProbe::Compares(
        Arc::clone(&entries),
        None,
    )));
    run_probed(seed, test, &second);
    if let HistoryProbe::Compares(_, Some(difference)) = &*second.lock().unwrap() {
        let first = find_again(seed, test, difference);
        panic!("two runs differ: {difference}{first}");
    }
}

/// Where the event was that the first run had, if a third has it, too.
fn find_again(seed: u64, test: &impl Fn(Sim), difference: &Difference) -> String {
    for _ in 0..TRIES {
        let third = Arc::new(Mutex::new(HistoryProbe::Looks(difference.at, None)));
        run_probed(seed, test, &third);
        if let HistoryProbe::Looks(_, Some(found)) = &*third.lock().unwrap() {
            let (entry, backtrace) = &**found;
            if Some(*entry) == difference.expected {
                return format!("\nthe first was at\n{backtrace}");
            }
        }
    }
    String::new()
}

fn run_probed(seed: u64, test: &impl Fn(Sim), probe: &Arc<Mutex<HistoryProbe>>) {
    let mut sim = Sim::new(seed);
    sim.probe = Some(Arc::clone(probe));
    test(sim);
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let parsed = text.parse();
    Some(parsed.unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn numbers(text: &str) -> Vec<usize> {
    let parse = |part: &str| {
        let parsed = part.parse();
        parsed.unwrap_or_else(|_| panic!("{FAULTS}={text}: {part} is no number"))
    };
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(parse).collect()
}

/// The lowest of the seeds that fail among those that were tried until one did.
fn first_failing(mut seeds: impl Iterator<Item = u64>, test: &impl Fn(Sim)) -> Option<u64> {
    let most = available_parallelism().map_or(1, |n| n.get());
    let mut running = Vec::new();
    let mut failed = None::<u64>;
    loop {
        while failed.is_none() && running.len() < most {
            let Some(seed) = seeds.next() else { break };
            running.push((seed, SeedProcess::start(move || test(Sim::new(seed)))));
        }
        if running.is_empty() {
            return failed;
        }
        let (seed, child) = running.remove(0);
        if child.end().failed {
            failed = Some(failed.map_or(seed, |other| other.min(seed)));
        }
    }
}

/// A part of `all` with which it still fails, and of which no half, quarter and so on, and
/// none alone, can be left out. After Zeller's delta debugging.
fn shrink(mut all: Vec<usize>, fails: impl Fn(&[usize]) -> bool) -> Vec<usize> {
    let mut size = all.len();
    while size > 0 {
        let before = all.len();
        let mut at = 0;
        while at < all.len() {
            let mut fewer = all.clone();
            fewer.drain(at..(at + size).min(all.len()));
            if fails(&fewer) {
                all = fewer;
            } else {
                at += size;
            }
        }
        // Who is left is another run: what was needed may not be any more.
        size = if all.len() < before {
            all.len()
        } else {
            size / 2
        };
    }
    all
}

/// All hooks for panics are there before there are children: other threads may be in
/// them then, with a lock that a child would wait for. Children are quiet.
fn prepare() {
    assert!(
        !CurrentTask::present(),
        "seeds are checked by a plain thread, not by a coroutine"
    );
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It installs its own.
        drop(Runtime::builder().build());
        say_if_unwatched();
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !is_child() {
                before(info);
            }
        }));
    });
}

/// A child has whatever descriptors its parent has: while it has those of a simulation
/// there, nothing closes them. So no simulation runs in a process that forks.
static RUNS: RwLock<()> = RwLock::new(());

/// A simulation runs in this process as long as this is kept.
pub(super) fn begin_run() -> RwLockReadGuard<'static, ()> {
    RUNS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this process is one that tries a seed: what it says is said again.
pub(super) fn is_child() -> bool {
    IS_CHILD.load(Ordering::Relaxed)
}

static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// In a child: where it tells its parent that a simulation has begun, and what escapes.
static PARENT: Mutex<Option<UnixStream>> = Mutex::new(None);

/// In a child: whether it has told that.
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

/// A simulation begins on this thread, with so many faults in its plan.
pub(super) fn tell_parent(faults: usize) {
    let parent = PARENT.lock().unwrap();
    if let Some(mut parent) = parent.as_ref() {
        if !HAS_BEGUN.swap(true, Ordering::Relaxed) {
            // One that is gone asks for nothing.
            let _ = parent.write_all(&faults.to_ne_bytes());
        }
    }
}

/// Says what has escaped; a child, which may not even take the lock of standard error, tells
/// its parent.
pub(super) fn report_escapes(seed: u64, escapes: &[Escape]) {
    if !is_child() {
        return tell_escapes(seed, escapes);
    }
    let parent = PARENT.lock().unwrap();
    if let Some(mut parent) = parent.as_ref() {
        let lines = escapes.iter().map(|one| one.to_line(seed));
        // As above.
        let _ = parent.write_all(lines.collect::<String>().as_bytes());
    }
}

/// For so long a child may take to begin. Other threads of its parent may have had a lock
/// when it was forked (std takes some for a moment, when a thread starts), which nobody
/// gives back to it: then it is forked once more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Children that are given up before one is waited for however long it takes: it may do
/// something else before its simulation.
const GIVEN_UP: u32 = 5;

/// What a child has said, but for the lines in which it tells of escapes, which are said
/// here.
fn without_escapes(said: &str) -> String {
    let mut others = String::new();
    for line in said.split_inclusive('\n') {
        match Escape::from_line(line) {
            Some((seed, escape)) => report_escapes(seed, &[escape]),
            None => others.push_str(line),
        }
    }
    others
}

/// A process that runs something.
struct SeedProcess<F> {
    run: F,
    process: libc::pid_t,
    says: UnixStream,
}

/// What has become of one.
struct SeedEnd {
    failed: bool,
    faults: usize,
    /// Of its panic.
    said: String,
}

/// How long a child may take to begin, at first and at the most, and how many may not.
const BEGINS_WITHIN: Duration = Duration::from_secs(1);
const BEGINS_WITHIN_MOST: Duration = Duration::from_secs(8);
const BEGINNINGS: usize = 20;
const NO_PAIR: &str = "a socket pair for a child process";

/// Takes a lock of libc's that `fork` does not open in the child: if another thread of the
/// parent's had it, the child would wait here for ever, or later. So this is what it does
/// first, and if it does not come back, another one is begun.
fn look_at_libraries() {
    unsafe extern "C" fn enough(_: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
        1
    }
    // SAFETY: `enough` takes nothing.
    unsafe { libc::dl_iterate_phdr(Some(enough), ptr::null_mut()) };
}

/// Whether a child has begun, or has ended.
fn has_begun(begun: &UnixStream, patience: Duration) -> bool {
    begun.set_read_timeout(Some(patience)).expect("a limit");
    let mut begun = begun;
    let heard = begun.read_exact(&mut [0]);
    !heard.is_err_and(|error| error.kind() == WouldBlock)
}

/// All that a child does.
fn in_child(run: &impl Fn(), parent: &UnixStream) -> ! {
    IS_CHILD.store(true, Ordering::Relaxed);
    HAS_BEGUN.store(false, Ordering::Relaxed);
    *PARENT.lock().unwrap() = parent.try_clone().ok();
    let result = catch_unwind(AssertUnwindSafe(run));
    if let Err(payload) = &result {
        // Its place in the message, if no simulation was begun.
        tell_parent(0);
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied());
        // A parent that is gone asks for nothing.
        let mut parent = parent;
        let _ = parent.write_all(text.unwrap_or_default().as_bytes());
    }
    // SAFETY: nothing of the parent's is to end in its child.
    unsafe { libc::_exit(result.is_err().into()) }
}

impl<F: Fn()> SeedProcess<F> {
    fn start(mut run: F) -> Self {
        let mut patience = BEGINS_WITHIN;
        for _ in 0..BEGINNINGS {
            let (says, parent) = UnixStream::pair().expect(NO_PAIR);
            let (begun, begins) = UnixStream::pair().expect(NO_PAIR);
            let no_simulation = RUNS.write().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the child has this one thread, and ends here.
            let forked = unsafe { libc::fork() };
            // In the child as well, whose test may have simulations and children.
            drop(no_simulation);
            match forked {
                -1 => panic!("no child process: {}", io::Error::last_os_error()),
                0 => {
                    drop((says, begun));
                    look_at_libraries();
                    let _ = (&begins).write_all(&[1]);
                    drop(begins);
                    in_child(&run, &parent)
                }
                process => {
                    drop(begins);
                    let child = Self { run, process, says };
                    if has_begun(&begun, patience) {
                        return child;
                    }
                    // SAFETY: our child, which nobody waits for.
                    unsafe { libc::kill(process, libc::SIGKILL) };
                    let _ = child.reap();
                    run = child.run;
                    patience = (2 * patience).min(BEGINS_WITHIN_MOST);
                }
            }
        }
        panic!(
            "no process for a seed could begin, {BEGINNINGS} times: another thread of this one \
             has a lock that it does not give back (the dynamic linker's, in a constructor of a \
             library?)"
        )
    }

    /// Waits for its end.
    fn end(mut self) -> SeedEnd {
        let mut told = self.faults(Some(PATIENCE));
        for given_up in 1..=GIVEN_UP {
            if !told.as_ref().is_err_and(|error| error.kind() == WouldBlock) {
                break;
            }
            // SAFETY: a child of ours, which is not reaped.
            let _ = unsafe { sys!(SYS_kill, self.process, libc::SIGKILL) };
            let _ = self.reap();
            self = Self::start(self.run);
            told = self.faults((given_up < GIVEN_UP).then_some(PATIENCE));
        }
        let mut said = String::new();
        let _ = self.says.read_to_string(&mut said);
        let mut said = without_escapes(&said);
        let (waited, status) = self.reap();
        let ended_well =
            waited.is_ok() && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        if !ended_well && said.is_empty() {
            said = format!("the process ended with status {status:#x}");
        }
        SeedEnd {
            failed: !ended_well,
            faults: told.unwrap_or(0),
            said,
        }
    }

    /// How many faults it has planned, when it has begun.
    fn faults(&mut self, patience: Option<Duration>) -> io::Result<usize> {
        self.says.set_read_timeout(patience)?;
        let mut faults = [0; size_of::<usize>()];
        self.says.read_exact(&mut faults)?;
        self.says.set_read_timeout(None)?;
        Ok(usize::from_ne_bytes(faults))
    }

    fn reap(&self) -> (Answer, c_int) {
        let mut status = 0;
        // SAFETY: a place for the status.
        let ask = || unsafe { sys!(SYS_wait4, self.process, &raw mut status, 0, 0) };
        (uninterrupted(ask), status)
    }
}

#[cfg(test)]
mod tests {
    use super::shrink;

    #[test]
    fn what_is_not_needed_is_left_out() {
        let needed = |some: &[usize]| some.contains(&3) && some.contains(&17);
        assert_eq!(shrink((0..40).collect(), needed), [3, 17]);
        assert_eq!(shrink((0..40).collect(), |_| true), [0_usize; 0]);
        assert_eq!(shrink(vec![5], |some| some == [5]), [5]);
    }
}
