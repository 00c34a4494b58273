//! Coroutines: `co_create`, `co_resume`, `co_yield`, `co_release`, `co_reset`.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::ptr;

use crore::__driven::{self, Driven};

use crate::co::env::Values;
use crate::co::refuse;
use crate::co::thread::{self, CURRENT, Opaque, SharedStack};
use crate::error::{Code, Error, Result};
use crate::table::{Object, table};
use crate::task::{Call, Entry};

/// `stCoRoutineAttr_t`, which libco packs.
#[derive(Clone, Copy)]
#[repr(C, packed)]
pub struct Attributes {
    stack_size: c_int,
    share_stack: Opaque,
}

const _: () = assert!(size_of::<Attributes>() == 4 + size_of::<usize>());

/// Bytes of a stack whose size is not said, and the most.
const STACK: usize = 128 << 10;
const LARGEST: usize = 8 << 20;

/// A coroutine of libco's; its thread's alone.
pub(super) struct Routine {
    thread: u64,
    entry: Option<Entry>,
    arg: *mut c_void,
    stack: usize,
    shared: bool,
    /// Of what runs it; 0: it has not begun.
    task: Cell<u64>,
    ended: Cell<bool>,
    /// It waits in `co_resume`.
    calls: Cell<bool>,
    /// It was resumed since it has yielded.
    pub(super) resumed: Cell<bool>,
    pub(super) hooked: Cell<bool>,
    pub(super) specific: RefCell<Vec<*mut c_void>>,
    pub(super) environment: RefCell<Values>,
}

// SAFETY: `with` gives it to its own thread only; others read the thread's number, and
// may drop it, when nobody else has it.
unsafe impl Sync for Routine {}
// SAFETY: as above.
unsafe impl Send for Routine {}

table!(Routine, "coroutine");

/// Uses a coroutine of this thread. Nothing that waits.
pub(super) fn with<T>(handle: u64, f: impl FnOnce(&Routine) -> T) -> Result<T> {
    let routine = Routine::table().get(handle)?;
    if routine.thread != thread::number() {
        return Err(Error::new(Code::State, "the coroutine is another thread's"));
    }
    Ok(f(&routine))
}

fn is_free(handle: u64) -> Result {
    let state = with(handle, |routine| routine.calls.get())?;
    match state || handle == thread::current() {
        true => Err(Error::new(
            Code::State,
            "the coroutine runs, or has resumed another",
        )),
        false => Ok(()),
    }
}

fn create(
    place: *mut Opaque,
    attributes: *const Attributes,
    entry: Option<Entry>,
    arg: *mut c_void,
) -> Result {
    let place = crate::error::not_null(place, "the coroutine's place")?;
    let (mut stack, mut shared) = (STACK, false);
    if !attributes.is_null() {
        // SAFETY: the caller's.
        let Attributes {
            stack_size,
            share_stack,
        } = unsafe { attributes.read_unaligned() };
        if let Ok(bytes @ 1..) = usize::try_from(stack_size) {
            stack = bytes.min(LARGEST).next_multiple_of(4096);
        }
        if share_stack != Opaque::NULL {
            stack = SharedStack::table().get(share_stack.handle())?.0;
            shared = true;
        }
    }
    let handle = Routine::table().insert(Routine {
        thread: thread::number(),
        entry,
        arg,
        stack,
        shared,
        task: Cell::new(0),
        ended: Cell::new(false),
        calls: Cell::new(false),
        resumed: Cell::new(false),
        hooked: Cell::new(false),
        specific: RefCell::default(),
        environment: RefCell::default(),
    })?;
    // SAFETY: the caller's place.
    unsafe { place.write(Opaque::of(handle)) };
    Ok(())
}

/// Makes what runs a coroutine.
fn begin(driven: &Driven, handle: u64) -> Result<u64> {
    let (entry, arg, stack, shared) = with(handle, |routine| {
        (routine.entry, routine.arg, routine.stack, routine.shared)
    })?;
    let body = move || {
        CURRENT.set(handle);
        // libco runs nothing where there is no function.
        if let Ok(call) = Call::new(entry, arg) {
            call.run();
        }
        // It may have been released meanwhile.
        let _ = with(handle, |routine| routine.ended.set(true));
    };
    let own = (!shared || !thread::has_shared(stack)).then_some(stack);
    // SAFETY: libco's users keep its contract for shared stacks, which is the same.
    let task = unsafe { driven.spawn(own, body) }?;
    with(handle, |routine| routine.task.set(task))?;
    Ok(task)
}

fn resume(handle: u64) -> Result {
    is_free(handle)?;
    let (mut task, ended) = with(handle, |routine| (routine.task.get(), routine.ended.get()))?;
    if ended {
        return Err(Error::new(
            Code::State,
            "the coroutine has ended: co_reset or co_release it",
        ));
    }
    let driven = thread::driven()?;
    if task == 0 {
        task = begin(driven, handle)?;
    }
    with(handle, |routine| routine.resumed.set(true))?;
    let caller = thread::current();
    let calls = |calls| with(caller, |routine| routine.calls.set(calls));
    if caller != 0 {
        calls(true)?;
    }
    let called = driven.call(task);
    if caller != 0 {
        calls(false)?;
    }
    match called {
        true => Ok(()),
        false => Err(Error::new(
            Code::State,
            "the coroutine can't be resumed here",
        )),
    }
}

/// Until the coroutine that calls this is resumed.
fn yield_to_caller() -> Result {
    let me = thread::current();
    if me == 0 {
        return Err(Error::of(Code::Outside));
    }
    with(me, |routine| routine.resumed.set(false))?;
    while !with(me, |routine| routine.resumed.get())? {
        __driven::suspend(None);
    }
    Ok(())
}

/// Back to where it has not begun; what is suspended is forgotten.
fn reset(handle: u64) -> Result {
    is_free(handle)?;
    let (task, ended) = with(handle, |routine| (routine.task.get(), routine.ended.get()))?;
    if task != 0 && !ended {
        thread::driven()?.forget(task);
    }
    with(handle, |routine| {
        routine.task.set(0);
        routine.ended.set(false);
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn co_create(
    co: *mut Opaque,
    attr: *const Attributes,
    routine: Option<Entry>,
    arg: *mut c_void,
) -> c_int {
    match create(co, attr, routine, arg) {
        Ok(()) => 0,
        Err(error) => refuse("co_create", error),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn co_resume(co: Opaque) {
    if let Err(error) = resume(co.handle()) {
        refuse("co_resume", error);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn co_yield_ct() {
    if let Err(error) = yield_to_caller() {
        refuse("co_yield_ct", error);
    }
}

/// (libco looks at the thread of `co` only.)
#[unsafe(no_mangle)]
pub extern "C" fn co_yield(co: Opaque) {
    let yielded = with(co.handle(), |_| ()).and_then(|()| yield_to_caller());
    if let Err(error) = yielded {
        refuse("co_yield", error);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn co_release(co: Opaque) {
    let released = reset(co.handle()).and_then(|()| Routine::table().remove(co.handle()).map(drop));
    if let Err(error) = released {
        refuse("co_release", error);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn co_reset(co: Opaque) {
    if let Err(error) = reset(co.handle()) {
        refuse("co_reset", error);
    }
}

/// (Null outside of coroutines.)
#[unsafe(no_mangle)]
pub extern "C" fn co_self() -> Opaque {
    Opaque(ptr::without_provenance_mut(thread::current() as usize))
}

#[unsafe(no_mangle)]
pub extern "C" fn co_enable_hook_sys() {
    set_hooked(true);
}

#[unsafe(no_mangle)]
pub extern "C" fn co_disable_hook_sys() {
    set_hooked(false);
}

fn set_hooked(on: bool) {
    if with(thread::current(), |routine| routine.hooked.set(on)).is_ok() {
        __driven::set_unhooked(!on);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn co_is_enable_sys_hook() -> bool {
    is_hooked()
}

pub(super) fn is_hooked() -> bool {
    let me = thread::current();
    me != 0 && with(me, |routine| routine.hooked.get()).unwrap_or(false)
}
