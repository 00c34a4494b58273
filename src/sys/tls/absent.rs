//! The stand-in where own thread-locals are not supported: the same names, and
//! the reason. No [`TlsBlock`] can exist here.

use std::convert::Infallible;
use std::io;

/// A thread's block; there is only the thread's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadPointer;

impl ThreadPointer {
    pub(crate) fn current() -> Self {
        Self
    }

    /// # Safety
    ///
    /// - None: there is nothing to change to.
    pub(crate) unsafe fn enter(self) {}
}

/// Never made here.
#[derive(Debug)]
pub(crate) struct TlsBlock(Infallible);

impl TlsBlock {
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, WHY))
    }

    /// # Safety
    ///
    /// - None: there is no block.
    pub(crate) unsafe fn renew(self, _: (usize, usize)) -> io::Result<Self> {
        match self.0 {}
    }

    pub(crate) fn number(&self) -> u32 {
        match self.0 {}
    }

    pub(crate) fn address(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn pointer(&self) -> ThreadPointer {
        match self.0 {}
    }

    /// # Safety
    ///
    /// - None: there is no block.
    pub(crate) unsafe fn take_malloc_from(&self, _: ThreadPointer) {
        match self.0 {}
    }

    /// # Safety
    ///
    /// - None: there is no block.
    pub(crate) unsafe fn give_malloc_to(&self, _: ThreadPointer) {
        match self.0 {}
    }

    /// # Safety
    ///
    /// - None: there is no block.
    pub(crate) unsafe fn take_errno_from(&self, _: ThreadPointer) {
        match self.0 {}
    }

    /// # Safety
    ///
    /// - None: there is no block.
    pub(crate) unsafe fn enlist_in_child(&self) {
        match self.0 {}
    }
}

const WHY: &str = if cfg!(target_feature = "crt-static") {
    "own thread-locals are not available: this program is linked statically, and the functions of \
     glibc that make thread-locals can be found in the shared library only"
} else {
    "own thread-locals are not available: they are made with functions of glibc on Linux, and this \
     program uses another C library"
};

pub(crate) fn support() -> Result<(), &'static str> {
    Err(WHY)
}

pub(crate) fn register_thread(worker: usize) {
    debug_assert!(worker < super::MAX_THREADS);
}

pub(crate) fn unregister_thread(_: usize) {}

/// None.
pub(crate) fn registered_threads() -> usize {
    0
}

/// None.
pub(crate) fn blocks() -> usize {
    0
}

/// # Safety
///
/// - Never called: nobody has a block.
pub(crate) unsafe fn end_of_thread_locals() {}

/// # Safety
///
/// - Never called: nobody has a block.
pub(crate) unsafe fn with_kernel_tid<R>(f: impl FnOnce() -> R) -> R {
    f()
}
