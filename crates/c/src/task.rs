//! Coroutines: spawning, joining, cancelling, by handle or by id.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::mem::forget;
use std::process::abort;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crore::{Builder, CoroutineId, JoinError, JoinHandle};

use crate::error::{Code, Error, Result, call, not_null};
use crate::runtime::RuntimeHandle;
use crate::table::{Object, Pin, table};

/// What a coroutine runs. (It may be C++: an exception that leaves it is found.)
pub(crate) type Entry = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// `crore_task` of the header.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Task {
    id: u64,
}

/// `crore_options` of the header.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Options {
    pub(crate) size: usize,
    name: *const c_char,
    stack_size: usize,
    worker: u32,
    daemon: c_int,
    own_thread_locals: c_int,
    unhooked: c_int,
    shared: c_int,
}

const _: () = assert!(size_of::<Options>() == 48);

/// A coroutine that can be joined. Its handle is taken by who joins it.
pub(crate) struct Joinable {
    id: CoroutineId,
    join: Mutex<Option<JoinHandle<Value>>>,
}

table!(Joinable, "coroutine");

/// A pointer of C's, which C answers for.
#[derive(Clone, Copy)]
pub(crate) struct Value(pub(crate) *mut c_void);

// SAFETY: a number to us.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

/// A call of C's function that nothing may leave but by returning.
pub(crate) struct Call {
    entry: Entry,
    arg: Value,
}

impl Call {
    pub(crate) fn new(entry: Option<Entry>, arg: *mut c_void) -> Result<Self> {
        let entry = entry.ok_or_else(|| Error::new(Code::Null, "the function is null"))?;
        let arg = Value(arg);
        Ok(Self { entry, arg })
    }

    pub(crate) fn run(self) -> Value {
        struct Border;
        impl Drop for Border {
            fn drop(&mut self) {
                eprintln!(
                    "crore: an exception, or pthread_exit, has left a function that crore called; \
                     catch it there, or use crore.hpp, which hands it on"
                );
                abort();
            }
        }
        let border = Border;
        // SAFETY: the caller of the API answers for the function and its argument.
        let value = unsafe { (self.entry)(self.arg.0) };
        forget(border);
        Value(value)
    }
}

/// Writes a result, if its place is wanted.
///
/// # Safety
///
/// - The place is null, or may be written.
pub(crate) unsafe fn write<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: the caller's place.
        unsafe { place.write(value) };
    }
}

impl Options {
    /// The caller's, as far as it knows them.
    ///
    /// # Safety
    ///
    /// - Null, or it begins with the number of bytes that are there.
    unsafe fn read(from: *const Self) -> Result<Self> {
        // SAFETY: all zero is what each option is if not said.
        let mut options: Self = unsafe { std::mem::zeroed() };
        if !from.is_null() {
            // SAFETY: the caller's.
            unsafe { crate::runtime::read_sized(from, &mut options)? };
        }
        Ok(options)
    }

    fn builder(&self) -> Result<Builder> {
        let mut builder = Builder::new()
            .daemon(self.daemon != 0)
            .unhooked(self.unhooked != 0);
        if !self.name.is_null() {
            // SAFETY: a string of the caller's.
            let name = unsafe { CStr::from_ptr(self.name) };
            builder = builder.name(name.to_string_lossy().into());
        }
        if self.stack_size != 0 {
            builder = builder.stack_size(self.stack_size);
        }
        if self.worker != 0 {
            builder = builder.worker(self.worker as usize - 1);
        }
        if self.own_thread_locals != 0 {
            builder = builder.own_thread_locals(true);
        }
        Ok(builder)
    }

    fn spawn(&self, call: Call) -> Result<JoinHandle<Value>> {
        let builder = self.builder()?;
        let body = move || call.run();
        let spawned = match self.shared != 0 {
            // SAFETY: the header hands the contract of shared stacks on.
            true => unsafe { builder.spawn_shared(body) },
            false => builder.spawn(body),
        };
        Ok(spawned?)
    }
}

/// Hands a new coroutine's handle out, or detaches it.
unsafe fn hand_out(join: JoinHandle<Value>, task: *mut Task) -> Result {
    if !task.is_null() {
        let id = join.thread().id();
        let join = Mutex::new(Some(join));
        let id = Joinable::table().insert(Joinable { id, join })?;
        // SAFETY: the caller's place.
        unsafe { task.write(Task { id }) };
    }
    Ok(())
}

/// Why a coroutine has no result.
pub(crate) fn why(error: JoinError) -> Error {
    if error.is_cancelled() {
        return Error::of(Code::Cancelled);
    }
    let code = if error.is_panic() {
        Code::Panic
    } else {
        Code::System
    };
    Error::new(code, error.to_string())
}

/// Forgets a handle whose coroutine is joined, or detached by a join that was cut short.
struct Release<'a>(&'a Pin<'a, Joinable>);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.take_out();
    }
}

fn join(task: Task, limit: Option<Duration>, result: *mut *mut c_void) -> Result {
    let pin = Joinable::table().get(task.id)?;
    if CoroutineId::__of_caller().is_some_and(|me| me == pin.id) {
        return Err(Error::new(Code::State, "a coroutine can't join itself"));
    }
    let lock = || pin.join.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(handle) = lock().take() else {
        return Err(Error::new(Code::State, "another call joins this coroutine"));
    };
    let release = Release(&pin);
    let ended = match limit {
        None => handle.join(),
        Some(limit) => match handle.join_timeout(limit) {
            Ok(ended) => ended,
            Err(handle) => {
                forget(release);
                *lock() = Some(handle);
                return Err(Error::of(Code::Timeout));
            }
        },
    };
    let value = ended.map_err(why)?;
    // SAFETY: the caller's place.
    unsafe { write(result, value.0) };
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_spawn(
    entry: Option<Entry>,
    arg: *mut c_void,
    task: *mut Task,
) -> c_int {
    call(|| {
        let call = Call::new(entry, arg)?;
        let join = Builder::new().spawn(move || call.run())?;
        // SAFETY: the caller's place.
        unsafe { hand_out(join, task) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_spawn_with(
    options: *const Options,
    entry: Option<Entry>,
    arg: *mut c_void,
    task: *mut Task,
) -> c_int {
    call(|| {
        // SAFETY: the caller's options and place.
        unsafe { hand_out(Options::read(options)?.spawn(Call::new(entry, arg)?)?, task) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_spawn_on(
    runtime: RuntimeHandle,
    options: *const Options,
    entry: Option<Entry>,
    arg: *mut c_void,
    task: *mut Task,
) -> c_int {
    call(|| {
        let call = Call::new(entry, arg)?;
        // SAFETY: the caller's options.
        let options = unsafe { Options::read(options)? };
        if options.shared != 0 {
            let text = "a coroutine on a shared stack is spawned on its own worker";
            return Err(Error::new(Code::Invalid, text));
        }
        let runtime = runtime.find()?;
        let join = options.builder()?.spawn_on(&runtime, move || call.run());
        let join = join.map_err(|error| match error.kind() {
            // The runtime has ended; where the caller is does not matter.
            io::ErrorKind::NotConnected => Error::new(Code::System, error.to_string()),
            _ => error.into(),
        });
        // SAFETY: the caller's place.
        unsafe { hand_out(join?, task) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_join(task: Task, result: *mut *mut c_void) -> c_int {
    call(|| join(task, None, result))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_join_timeout(
    task: Task,
    nanoseconds: u64,
    result: *mut *mut c_void,
) -> c_int {
    call(|| join(task, Some(Duration::from_nanos(nanoseconds)), result))
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_detach(task: Task) -> c_int {
    call(|| Joinable::table().remove(task.id).map(drop))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_task_id(task: Task, id: *mut u64) -> c_int {
    call(|| {
        let id = not_null(id, "the id's place")?;
        let bits = Joinable::table().get(task.id)?.id.__to_bits();
        // SAFETY: the caller's place.
        unsafe { id.write(bits) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_is_finished(task: Task, finished: *mut c_int) -> c_int {
    call(|| {
        let finished = not_null(finished, "the answer's place")?;
        let pin = Joinable::table().get(task.id)?;
        let join = pin.join.lock().unwrap_or_else(PoisonError::into_inner);
        let is = join.as_ref().is_some_and(JoinHandle::is_finished);
        // SAFETY: the caller's place.
        unsafe { finished.write(is.into()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_self(id: *mut u64) -> c_int {
    call(|| {
        let id = not_null(id, "the id's place")?;
        let me = CoroutineId::__of_caller().ok_or_else(|| Error::of(Code::Outside))?;
        // SAFETY: the caller's place.
        unsafe { id.write(me.__to_bits()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_cancel(id: u64) -> c_int {
    call(|| {
        CoroutineId::__from_bits(id).cancel();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_unpark(id: u64) -> c_int {
    call(|| {
        CoroutineId::__from_bits(id).unpark();
        Ok(())
    })
}
