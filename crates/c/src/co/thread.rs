//! A thread's part: its runtime, the coroutine that runs, shared stacks.

use std::cell::Cell;
use std::ffi::c_int;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crore::__driven::Driven;

use crate::co::refuse;
use crate::error::{Code, Error, Result};
use crate::table::{Object, table};

/// What libco's users hold: a handle as a pointer, never followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Opaque(pub(super) *mut u8);

impl Opaque {
    pub(super) const NULL: Self = Self(ptr::null_mut());

    pub(super) fn of(handle: u64) -> Self {
        Self(ptr::without_provenance_mut(handle as usize))
    }

    pub(super) fn handle(self) -> u64 {
        self.0.addr() as u64
    }
}

crore::coroutine_local! {
    /// The handle of the coroutine that runs; 0 outside of libco's.
    pub(super) static CURRENT: Cell<u64> = const { Cell::new(0) };
}

thread_local! {
    static DRIVEN: Cell<Option<&'static Driven>> = const { Cell::new(None) };
    static NUMBER: u64 = {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

/// The thread's number, by which objects know where they belong.
pub(super) fn number() -> u64 {
    NUMBER.with(|number| *number)
}

/// A coroutine's handle; 0: none runs.
pub(super) fn current() -> u64 {
    CURRENT.try_with(Cell::get).unwrap_or(0)
}

/// Stacks that shared ones are asked for; a thread's runtime has as many and as large
/// as are known when its first coroutine begins.
static COUNT: AtomicUsize = AtomicUsize::new(1);
static BYTES: AtomicUsize = AtomicUsize::new(128 << 10);
/// The largest that a runtime can have.
const LARGEST: usize = 1 << 30;

thread_local! {
    /// How large the thread's shared stacks are.
    static SHARED: Cell<usize> = const { Cell::new(0) };
}

/// The thread's runtime, which begins here.
pub(super) fn driven() -> io::Result<&'static Driven> {
    if let Some(driven) = DRIVEN.get() {
        return Ok(driven);
    }
    let bytes = BYTES.load(Ordering::Relaxed);
    let count = COUNT.load(Ordering::Relaxed) as u32;
    let driven = Driven::new(crore::Runtime::builder().shared_stacks(count, bytes))?;
    SHARED.set(bytes);
    DRIVEN.set(Some(driven));
    Ok(driven)
}

/// Whether the thread's shared stacks are that large.
pub(super) fn has_shared(bytes: usize) -> bool {
    bytes <= SHARED.get()
}

/// What `co_alloc_sharestack` has made: bytes of each.
pub(super) struct SharedStack(pub(super) usize);

table!(SharedStack, "shared stack");

#[unsafe(no_mangle)]
pub extern "C" fn co_alloc_sharestack(count: c_int, stack_size: c_int) -> Opaque {
    let sizes = usize::try_from(count)
        .ok()
        .zip(usize::try_from(stack_size).ok());
    let Some((count @ 1..=65_536, bytes @ 1..=LARGEST)) = sizes else {
        let text = format!("{count} stacks of {stack_size} bytes can't be");
        refuse("co_alloc_sharestack", Error::new(Code::Invalid, text));
        return Opaque::NULL;
    };
    COUNT.fetch_max(count, Ordering::Relaxed);
    BYTES.fetch_max(bytes, Ordering::Relaxed);
    let kept: Result<u64> = SharedStack::table().insert(SharedStack(bytes));
    kept.map_or(Opaque::NULL, Opaque::of)
}
