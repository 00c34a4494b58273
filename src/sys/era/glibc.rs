//! glibc's list of destructors of thread-locals.
//!
//! Its head is a thread-local without a name. It is found by what it does: of the words of
//! libc's thread-locals it is the one that changes when a destructor is registered, to a
//! node that has the destructor's object and points to what the word was before.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

use crate::sys::{library, thread_pointer};

type Destructor = extern "C" fn(*mut c_void);

unsafe extern "C" {
    // Since glibc 2.18.
    fn __cxa_thread_atexit_impl(
        destructor: Destructor,
        object: *mut c_void,
        library: *const c_void,
    ) -> c_int;
    static __dso_handle: u8;
}

/// The head's distance from the thread pointer. 0 until it is found: there is nothing that
/// changes.
static HEAD: AtomicIsize = AtomicIsize::new(0);

static SOUGHT: AtomicBool = AtomicBool::new(false);

/// The newest node. Where the head is not known, some number.
#[inline(always)]
pub(super) fn first() -> usize {
    // SAFETY: a word of libc's thread-locals, or of the control block.
    unsafe { thread_pointer::word(HEAD.load(Ordering::Relaxed)) }
}

/// Puts one in front. (What can fail ends the process.)
pub(super) fn register(destructor: Destructor) {
    // SAFETY: a function that may be called with anything, and the library that it is in.
    unsafe {
        let library = (&raw const __dso_handle).cast();
        __cxa_thread_atexit_impl(destructor, object(), library);
    }
}

/// Told to each of ours.
fn object() -> *mut c_void {
    (&raw const HEAD).cast_mut().cast()
}

/// Whether the head is known; looks for it at the first call.
pub(super) fn is_known() -> bool {
    if !SOUGHT.load(Ordering::Acquire) {
        // Two threads may look for it, and find the same.
        HEAD.store(find().unwrap_or(0), Ordering::Relaxed);
        SOUGHT.store(true, Ordering::Release);
    }
    HEAD.load(Ordering::Relaxed) != 0
}

/// The one word that two registrations have changed as they change the head.
fn find() -> Option<isize> {
    let (begin, bytes) = library::thread_locals_around(inside_libc())?;
    let begin = ptr::with_exposed_provenance::<usize>(begin);
    if !begin.is_aligned() {
        return None;
    }
    let words = bytes / size_of::<usize>();
    let read = |seen: &mut [usize]| {
        for (i, seen) in seen.iter_mut().enumerate() {
            // SAFETY: whole words of libc's thread-locals, of this thread.
            *seen = unsafe { begin.add(i).read_volatile() };
        }
    };
    // Made before: an allocation may change libc's words, too.
    let mut seen = [(); 3].map(|()| vec![0; words]);
    for seen in &mut seen {
        register(nothing);
        read(seen);
    }
    let [before, between, after] = seen;
    let changed = |i: usize| before[i] != between[i] && between[i] != after[i];
    let mut found = (0..words).filter(|&i| changed(i));
    let at = found.next().filter(|_| found.next().is_none())?;
    // SAFETY: no other word of libc's changes at both, so this is the head: a node.
    let node = unsafe { ptr::with_exposed_provenance::<[usize; 4]>(after[at]).read() };
    // Of four words: function, object, library, next.
    let as_expected = node[1] == object().addr() && node[3] == between[at];
    as_expected.then(|| {
        begin
            .wrapping_add(at)
            .addr()
            .wrapping_sub(thread_pointer::get()) as isize
    })
}

extern "C" fn nothing(_: *mut c_void) {}

/// The address of something in libc.
fn inside_libc() -> usize {
    #[cfg(target_feature = "crt-static")]
    return __cxa_thread_atexit_impl as *const () as usize;
    #[cfg(not(target_feature = "crt-static"))]
    // SAFETY: a valid name.
    unsafe {
        libc::dlsym(libc::RTLD_DEFAULT, c"gnu_get_libc_version".as_ptr()).addr()
    }
}
