//! Starting: `pthread_create`.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;

use libc::{pthread_attr_t, pthread_t};

use super::call_start::{Start, UnwindBuffer, call_start};
use super::thread::Thread;
use super::{actions, mask};
use crate::hook::libc::hook;
use crate::hook::wait::call::in_coroutine;
use crate::sched::{CurrentTask, Plan, StackPlan, ThreadBlock, Worker, caught, coroutine};
use crate::sys::syscall::{errno, set_errno};

/// The largest stack of a coroutine; who wants more gets a thread.
const MOST: usize = 1 << 30;

/// What a thread's attributes ask for.
struct Asked {
    stack: usize,
    detached: bool,
}

unsafe extern "C" {
    fn pthread_getattr_default_np(attr: *mut pthread_attr_t) -> c_int;
    fn pthread_attr_getdetachstate(attr: *const pthread_attr_t, state: *mut c_int) -> c_int;
    fn pthread_attr_getstackaddr(attr: *const pthread_attr_t, at: *mut *mut c_void) -> c_int;
}

impl Asked {
    /// None: no coroutine can be so. Affinity and priority are hints and not taken.
    ///
    /// # Safety
    ///
    /// - Null, or attributes.
    unsafe fn by(attr: *const pthread_attr_t, by_default: Option<usize>) -> Option<Self> {
        let mut plain = MaybeUninit::<pthread_attr_t>::uninit();
        // SAFETY: places of ours; the caller's attributes, or those just made.
        unsafe {
            if pthread_getattr_default_np(plain.as_mut_ptr()) != 0 {
                return None;
            }
            let mut plain = plain.assume_init();
            let attr = if attr.is_null() {
                &raw const plain
            } else {
                attr
            };
            let (mut usual, mut stack, mut state, mut own) = (0, 0, 0, ptr::null_mut());
            libc::pthread_attr_getstacksize(&raw const plain, &raw mut usual);
            libc::pthread_attr_getstacksize(attr, &raw mut stack);
            pthread_attr_getdetachstate(attr, &raw mut state);
            pthread_attr_getstackaddr(attr, &raw mut own);
            libc::pthread_attr_destroy(&raw mut plain);
            let stack = by_default.filter(|_| stack == usual).unwrap_or(stack);
            (own.is_null() && stack <= MOST).then_some(Self {
                stack,
                detached: state == libc::PTHREAD_CREATE_DETACHED,
            })
        }
    }
}

/// The size of a stack that is asked for; 0 if none is.
///
/// # Safety
///
/// - Null, or attributes.
unsafe fn stack_size(attr: *const pthread_attr_t) -> usize {
    let mut bytes = 0;
    if !attr.is_null() {
        // SAFETY: the caller's attributes; a place of ours.
        unsafe { libc::pthread_attr_getstacksize(attr, &raw mut bytes) };
    }
    bytes
}

/// The coroutine whose thread with this start routine is to be a coroutine.
fn spawner(start: Start) -> Option<CurrentTask> {
    let cx = in_coroutine()?;
    let threads = &cx.worker().threads;
    threads
        .makes_coroutine(start as *const c_void)
        .then_some(cx)
}

hook!(
    next,
    unsafe extern "C" fn pthread_create(
        thread: *mut pthread_t,
        attr: *const pthread_attr_t,
        start: Start,
        arg: *mut c_void,
    ) -> c_int {
        // std's, for a coroutine's name; it has no thread to ask for.
        //
        // SAFETY: the caller's attributes.
        if caught(|| unsafe { stack_size(attr) }, start, arg) {
            return 0;
        }
        // SAFETY: the caller's attributes.
        let asked = spawner(start)
            .and_then(|cx| Some((cx, unsafe { Asked::by(attr, cx.worker().threads.stack) }?)));
        let Some((cx, asked)) = asked else {
            #[cfg(feature = "sanitizer")]
            if let Some(of_sanitizer) = super::sanitizer::pthread_create() {
                // SAFETY: the caller's arguments.
                return unsafe { of_sanitizer(thread, attr, start, arg) };
            }
            // SAFETY: the same.
            return unsafe { pthread_create::next(thread, attr, start, arg) };
        };
        let saved = errno();
        let started = create(cx, asked, None, start, arg);
        set_errno(saved);
        match started {
            Ok(id) => {
                // SAFETY: the caller's place.
                unsafe { thread.write(id) };
                0
            }
            Err(()) => libc::EAGAIN,
        }
    }
);

/// `PTHREAD_CANCELED`.
const CANCELED: *mut c_void = ptr::without_provenance_mut(usize::MAX);

/// What a thread is to run. Like a thread of libc's, who starts it sees to it that
/// another may have `arg`.
struct ThreadBody {
    thread: Arc<Thread>,
    start: Start,
    arg: *mut c_void,
}

// SAFETY: as for any thread: by its contract `pthread_create` gives both away.
unsafe impl Send for ThreadBody {}

impl ThreadBody {
    fn run(self) {
        if let Some(worker) = Worker::current() {
            mask::begin(worker, self.thread.begin());
            actions::begin(&self.thread);
        }
        // What libc gives if it ends by a cancellation, of which only libc knows.
        self.thread.set_result(CANCELED);
        let mut buffer = UnwindBuffer::new();
        // SAFETY: the start routine with its argument, once, as the caller of
        // `pthread_create` asked; the buffer outlives the call.
        let end = unsafe { call_start(self.start, self.arg, &mut buffer) };
        // A child that it has forked has no other thread: as such a one the process ends.
        if Worker::current().is_none() {
            // SAFETY: as libc does.
            unsafe { libc::exit(0) };
        }
        if !end.by_exit {
            self.thread.set_result(end.value);
        }
    }
}

/// The coroutine has ended, on this worker's own stack, or will never run.
fn ended(block: &Arc<ThreadBlock>) {
    let Some(thread) = Thread::find(block.address() as pthread_t) else {
        return;
    };
    if let Some((worker, mask)) = Worker::current().zip(thread.end()) {
        mask::end(worker, mask);
    }
    thread.tell_of_end();
}

/// Starts a thread, on the worker at this position if one is named.
fn create(
    cx: CurrentTask,
    asked: Asked,
    worker: Option<usize>,
    start: Start,
    arg: *mut c_void,
) -> Result<pthread_t, ()> {
    let (block, seat) = ThreadBlock::new(start as usize, ended).map_err(drop)?;
    let thread = Thread::add(
        block,
        asked.detached,
        cx.worker().guard_bytes(),
        mask::inherited(),
    );
    let id = thread.id();
    let body = ThreadBody {
        thread: Arc::clone(&thread),
        start,
        arg,
    };
    let plan = Plan {
        stack: StackPlan::Dedicated(asked.stack),
        name: None,
        unhooked: false,
        daemon: false,
        own_tls: Some(true),
        worker,
        thread: Some(seat),
        location: Location::caller(),
    };
    match cx.worker().spawn(coroutine(move || body.run()), plan) {
        Ok(_) => Ok(id),
        Err(_) => {
            thread.forget();
            Err(())
        }
    }
}

/// Runs a program's main thread beside the running coroutine, on this worker: the first,
/// whose number is the process's. Returns when it has ended, which is by `pthread_exit`
/// if its routine does not return.
///
/// # Safety
///
/// - As for `pthread_create`, with these.
pub(crate) unsafe fn run_main_thread(
    start: Start,
    arg: *mut c_void,
    stack: usize,
) -> std::io::Result<()> {
    let cx = in_coroutine().ok_or(std::io::ErrorKind::NotConnected)?;
    mask::main_is_thread();
    let asked = Asked {
        stack,
        detached: false,
    };
    let here = Some(cx.worker().position());
    let made = create(cx, asked, here, start, arg);
    let thread = made.map_err(|()| std::io::ErrorKind::OutOfMemory)?;
    if let Some(main) = Thread::find(thread) {
        main.set_main();
    }
    // SAFETY: a thread of ours that is joined here alone; no place.
    let code = unsafe { libc::pthread_join(thread, ptr::null_mut()) };
    debug_assert_eq!(code, 0, "a main thread that nobody else joins");
    Ok(())
}
