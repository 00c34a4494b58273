//! Looks at a worker from outside, whatever it does: a signal's handler on its thread
//! leaves what it finds there (`sighting.rs`).

use std::ffi::{c_int, c_void};
use std::fmt::Write;
use std::io;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use super::current::CurrentTask;
use super::label::TaskLabel;
use super::sighting::{Seen, hold};
use super::snapshot::{TaskInfo, Trace};
use super::worker::Worker;
use super::worker_handle::WorkerHandle;
use crate::shim::{atomic::AtomicU32, futex};
use crate::sys::handlers::{self, Info};
use crate::sys::kernel_thread::{ASK as SIGNAL, Queued};
use crate::sys::signal::Action;
use crate::sys::simulated;
use crate::sys::syscall::{errno, set_errno};
use crate::sys::unwind::Unwinder;
use crate::task::TaskState;

/// How long the thread has to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Tasks that there is room for beside those that are known of.
const MORE: usize = 64;

/// Which coroutine runs on a worker, and where it is in its code; nothing if the worker
/// does not run, or its thread can't be asked.
pub(super) fn who_runs(handle: &WorkerHandle) -> Option<Seen> {
    ask(handle, 0)
}

/// All tasks of a worker, without what the parked ones wait for. Of the running one
/// there is a backtrace.
pub(crate) fn tasks(handle: &WorkerHandle) -> Vec<TaskInfo> {
    let room = handle.load() as usize + MORE;
    let Some(mut seen) = ask(handle, room) else {
        return Vec::new();
    };
    let mut tasks = std::mem::take(&mut seen.tasks);
    let running = tasks
        .iter_mut()
        .find(|task| task.state == TaskState::Running);
    if let Some(running) = running.filter(|_| !seen.frames().is_empty()) {
        running.backtrace = Some(Arc::new(Trace {
            addresses: seen.frames().into(),
            named: None,
        }));
    }
    tasks
}

fn ask(handle: &WorkerHandle, tasks: usize) -> Option<Seen> {
    install();
    // What runs in a simulation has no clock of ours to wait by.
    if !is_installed() || simulated::world().is_some() {
        return None;
    }
    let thread = handle.watch.thread()?;
    let asked = Instant::now();
    let send = || thread.send(SIGNAL, handle.index()).is_ok();
    let wait = |state: &AtomicU32, now| {
        futex::wait(state, now, Some(ANSWER));
        asked.elapsed() < ANSWER
    };
    let mut unwinder = Unwinder::new();
    let look = |seen: &mut Seen| look(&mut unwinder, seen);
    let _asks = Worker::current().map(|worker| worker.handle.watch.ask());
    handle.watch.sighting.ask(tasks, send, wait, look)
}

/// At the stack of a thread that is held: the frames of the coroutine that runs, and of
/// what that runs on other stacks; of the worker's only if none does.
fn look(unwinder: &mut Unwinder, seen: &mut Seen) {
    let mut within = false;
    let stack = seen.stack.clone();
    unwinder.walk(seen.registers, |call, frame| {
        let (before, now) = (within, stack.contains(&frame));
        within |= now;
        (now || !before) && seen.add_frame(call)
    });
}

/// Installs the handler, unless the program has one of its own.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let install = || -> io::Result<()> {
            let action = Action::of(SIGNAL)?;
            if action.is_handler() {
                return Ok(());
            }
            // SAFETY: it is async-signal-safe, and code is never unloaded.
            unsafe { action.restarting(on_signal).install(SIGNAL) }
        };
        // Without it nobody is asked.
        let _ = install();
    });
}

/// Whether the handler is ours: the program may have replaced it.
fn is_installed() -> bool {
    Action::of(SIGNAL).is_ok_and(|action| action.runs(on_signal))
}

/// Runs on the worker's thread, wherever that is.
unsafe extern "C" fn on_signal(_: c_int, info: *mut Info, context: *mut c_void) {
    if simulated::world().is_some() {
        return;
    }
    let saved = errno();
    // SAFETY: the kernel's siginfo; what anybody else sends is only read.
    let queued = unsafe { &*info.cast::<Queued>() };
    let asked = Worker::current().filter(|worker| {
        queued.process == std::process::id() && queued.value == worker.index() as usize
    });
    if let Some(worker) = asked {
        // SAFETY: the kernel's.
        let registers = unsafe { &*context.cast() };
        let watch = &worker.handle.watch;
        // Two that ask each other would wait for each other.
        let hold = (!watch.asks()).then(hold);
        watch
            .sighting
            .make(hold, |seen| see(worker, registers, seen));
    }
    set_errno(saved);
}

fn see(worker: &Worker, registers: &handlers::Registers, seen: &mut Seen) {
    seen.registers.fill(registers);
    seen.switches = worker.handle.switches();
    let running = CurrentTask::running();
    if let Some(task) = running {
        // SAFETY: this coroutine runs here.
        seen.stack = unsafe { Worker::stack() };
        seen.start = worker.tls.start_routine(task.slot());
        // Cut off, not refused.
        let _ = write!(seen, "{}", TaskLabel::of(task));
    }
    if seen.tasks.capacity() > 0 {
        worker
            .slots
            .try_each_live(|slot| match worker.describe(slot) {
                Some(task) => seen.add_task(task),
                None => true,
            });
    }
}
