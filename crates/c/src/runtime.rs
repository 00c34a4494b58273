//! Runtimes: running one, spawning on it from elsewhere, ending it, looking at it.

use std::ffi::{c_char, c_int, c_void};
use std::fmt::Write as _;
use std::io;
use std::mem::zeroed;
use std::ops::Deref;
use std::ptr;
use std::time::Duration;

use crore::{Handle, Runtime};

use crate::error::{Code, Error, Result, call, not_null};
use crate::table::{Object, table};
use crate::task::{Call, Entry, Value, write};

/// `crore_runtime` of the header.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RuntimeHandle {
    id: u64,
}

/// `crore_config` of the header.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Config {
    size: usize,
    workers: u32,
    max_coroutines: u32,
    shared_stacks: u32,
    pin_workers: c_int,
    shared_stack_size: usize,
    own_thread_locals: c_int,
    threads_as_coroutines: c_int,
    drain_nanoseconds: u64,
    watchdog_nanoseconds: u64,
}

const _: () = assert!(size_of::<Config>() == 56);

/// Structs that begin with their size: a caller may know fewer fields than we, or more.
///
/// # Safety
///
/// - All zero is a value of `T`, which is plain data and begins with its size; as many
///   bytes as that says are there.
pub(crate) unsafe fn read_sized<T>(from: *const T, to: &mut T) -> Result {
    // SAFETY: it begins with its size.
    let size = unsafe { from.cast::<usize>().read() };
    if !(size_of::<usize>()..=4096).contains(&size) {
        let text = format!("a struct's size is {size}: set it by its INIT macro");
        return Err(Error::new(Code::Invalid, text));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: as many bytes are there, and have room.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), ptr::from_mut(to).cast(), known) };
    Ok(())
}

impl Config {
    fn build(&self) -> io::Result<Runtime> {
        let mut builder = Runtime::builder()
            .pin_workers(self.pin_workers != 0)
            .own_thread_locals(self.own_thread_locals != 0)
            .threads_as_coroutines(self.threads_as_coroutines != 0)
            .drain(Duration::from_nanos(self.drain_nanoseconds));
        if self.workers != 0 {
            builder = builder.workers(self.workers as usize);
        }
        if self.max_coroutines != 0 {
            builder = builder.max_coroutines(self.max_coroutines);
        }
        if self.shared_stacks != 0 || self.shared_stack_size != 0 {
            let count = if self.shared_stacks == 0 {
                8
            } else {
                self.shared_stacks
            };
            let bytes = if self.shared_stack_size == 0 {
                1 << 20
            } else {
                self.shared_stack_size
            };
            builder = builder.shared_stacks(count, bytes);
        }
        if self.watchdog_nanoseconds != 0 {
            builder = builder.watchdog(Some(Duration::from_nanos(self.watchdog_nanoseconds)));
        }
        builder.build()
    }
}

struct Kept(Handle);

table!(Kept, "runtime");

impl RuntimeHandle {
    pub(crate) fn find(self) -> Result<impl Deref<Target = Handle>> {
        struct Found<T>(T);
        impl<T: Deref<Target = Kept>> Deref for Found<T> {
            type Target = Handle;
            fn deref(&self) -> &Handle {
                &self.0.0
            }
        }
        Kept::table().get(self.id).map(Found)
    }
}

fn run(config: &Config, entry: Option<Entry>, arg: *mut c_void) -> Result<Value> {
    let call = Call::new(entry, arg)?;
    match config.build()?.run(move || call.run()) {
        Ok(value) => Ok(value),
        // `run` says only this of it.
        Err(error) if error.to_string() == "coroutine was cancelled" => {
            Err(Error::of(Code::Cancelled))
        }
        Err(error) => {
            let nested = crore::Handle::current().is_some();
            let code = if nested {
                Code::State
            } else {
                Error::from(io::Error::from(error.kind())).0
            };
            Err(Error::new(code, error.to_string()))
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_run(
    entry: Option<Entry>,
    arg: *mut c_void,
    result: *mut *mut c_void,
) -> c_int {
    // SAFETY: forwarded.
    unsafe { crore_run_with(ptr::null(), entry, arg, result) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_run_with(
    config: *const Config,
    entry: Option<Entry>,
    arg: *mut c_void,
    result: *mut *mut c_void,
) -> c_int {
    call(|| {
        // SAFETY: all zero is what each setting is if not said.
        let mut known: Config = unsafe { zeroed() };
        if !config.is_null() {
            // SAFETY: the caller's.
            unsafe { read_sized(config, &mut known)? };
        }
        let value = run(&known, entry, arg)?;
        // SAFETY: the caller's place.
        unsafe { write(result, value.0) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_runtime_current(runtime: *mut RuntimeHandle) -> c_int {
    call(|| {
        let place = not_null(runtime, "the runtime's place")?;
        let handle = Handle::current().ok_or_else(|| Error::of(Code::Outside))?;
        let id = Kept::table().insert(Kept(handle))?;
        // SAFETY: the caller's place.
        unsafe { place.write(RuntimeHandle { id }) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_runtime_release(runtime: RuntimeHandle) -> c_int {
    call(|| Kept::table().remove(runtime.id).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_shutdown(runtime: RuntimeHandle, grace_nanoseconds: u64) -> c_int {
    call(|| {
        let runtime = runtime.find()?;
        let ended = runtime.shutdown(Duration::from_nanos(grace_nanoseconds));
        ended.map_err(|running| Error::new(Code::Timeout, running.to_string()))
    })
}

/// Declares the struct of the header, and how it is filled.
macro_rules! metrics {
    ($($name:ident),+ $(,)?) => {
        /// `crore_metrics` of the header.
        #[derive(Clone, Copy)]
        #[repr(C)]
        pub struct Metrics {
            size: usize,
            $($name: u64,)+
        }

        impl Metrics {
            fn of(metrics: &crore::Metrics, size: usize) -> Self {
                Self { size, $($name: metrics.$name,)+ }
            }
        }
    };
}

metrics!(
    spawned,
    ended,
    abandoned,
    resumed,
    turns,
    frame_saves,
    frame_restores,
    saved_bytes,
    stacks_in_use,
    stacks_warm,
    stacks_cold,
    stacks_lost,
);

const _: () = assert!(size_of::<Metrics>() == 104);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_runtime_metrics(
    runtime: RuntimeHandle,
    metrics: *mut Metrics,
) -> c_int {
    call(|| {
        let place = not_null(metrics, "the metrics' place")?;
        // SAFETY: the caller's, which begins with its size.
        let size = unsafe { place.cast::<usize>().read() };
        if !(size_of::<usize>()..=4096).contains(&size) {
            return Err(Error::new(Code::Invalid, "crore_metrics.size is not set"));
        }
        let now = Metrics::of(&runtime.find()?.metrics(), size);
        let known = size.min(size_of::<Metrics>());
        // SAFETY: as many bytes have room.
        unsafe { ptr::copy_nonoverlapping(ptr::from_ref(&now).cast::<u8>(), place.cast(), known) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_dump(
    runtime: RuntimeHandle,
    buffer: *mut c_char,
    length: usize,
    needed: *mut usize,
) -> c_int {
    call(|| {
        let mut text = String::new();
        for coroutine in runtime.find()?.dump() {
            let _ = writeln!(text, "{coroutine}");
        }
        text.retain(|c| c != '\0');
        // SAFETY: the caller's place.
        unsafe { write(needed, text.len() + 1) };
        if length == 0 {
            return Ok(());
        }
        let buffer = not_null(buffer, "the buffer")?.cast::<u8>();
        let shown = text.len().min(length - 1);
        // SAFETY: the caller's buffer has room for as much, and a zero.
        unsafe {
            ptr::copy_nonoverlapping(text.as_ptr(), buffer, shown);
            buffer.add(shown).write(0);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_hooks_active() -> c_int {
    crore::hook::enabled().into()
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
