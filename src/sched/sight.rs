//! Looks at a worker from outside, whatever it does: a signal's handler on its thread
//! leaves what it finds there (`sighting.rs`).

use std::ffi::{c_int, c_void};
use std::fmt::Write;
use std::io;
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use super::current::CurrentTask;
use super::label::TaskLabel;
use super::sighting::Seen;
use super::snapshot::{TaskInfo, Trace};
use super::worker::Worker;
use super::worker_handle::WorkerHandle;
use crate::sys::handlers::Info;
use crate::sys::kernel_thread::{ASK as SIGNAL, Queued};
use crate::sys::signal::{self, Action};
use crate::sys::syscall::{errno, set_errno};
use crate::sys::unwind;
use crate::task::TaskState;

/// How long the thread has to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Bytes of the signal stack that the unwinder is given.
const ROOM: usize = 8 << 10;

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
    if !is_installed() {
        return None;
    }
    let thread = handle.watch.thread()?;
    let asked = Instant::now();
    let send = || thread.send(SIGNAL, handle.index()).is_ok();
    let wait = || {
        thread::sleep(Duration::from_micros(200));
        asked.elapsed() < ANSWER
    };
    handle.watch.sighting.ask(tasks, send, wait)
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
unsafe extern "C" fn on_signal(_: c_int, info: *mut Info, _: *mut c_void) {
    let saved = errno();
    // SAFETY: the kernel's siginfo; what anybody else sends is only read.
    let queued = unsafe { &*info.cast::<Queued>() };
    let asked = Worker::current().filter(|worker| {
        queued.process == std::process::id() && queued.value == worker.index() as usize
    });
    if let Some(worker) = asked {
        worker.handle.watch.sighting.make(|seen| see(worker, seen));
    }
    set_errno(saved);
}

fn see(worker: &Worker, seen: &mut Seen) {
    let running = CurrentTask::running();
    if let Some(task) = running {
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
    if signal::has_room(ROOM) {
        // Below the coroutine's are the worker's own.
        // SAFETY: only if this coroutine runs here.
        let is_its = |frame| running.is_some() && unsafe { Worker::runs_at(frame) };
        let mut within = false;
        unwind::walk_interrupted(|call, frame| {
            let (before, now) = (within, is_its(frame));
            within |= now;
            (now || !before) && seen.add_frame(call)
        });
    }
}
