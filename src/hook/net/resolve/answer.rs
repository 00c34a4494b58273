//! Relocated answers: a C struct whose pointers lead into a buffer beside it, on its
//! way from a helper thread to the caller.
//!
//! libc fills in a buffer of our own, which is copied to the caller's, and
//! every pointer is moved along ([`Relocate`]).

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{c_char, c_int};
use std::mem::{ManuallyDrop, MaybeUninit};

use libc::{group, hostent, passwd, protoent, servent, size_t, spwd};

use crate::util::no_park::NoPark;

/// A struct of libc's whose pointers lead into a buffer beside it.
pub(crate) trait Relocate: Copy {
    /// Moves each pointer into the buffer along with it.
    ///
    /// # Safety
    ///
    /// - The pointers as moved lead into a buffer with the same
    ///   contents, which can be written.
    unsafe fn relocate(&mut self, by: Move);
}

/// How far the buffer has moved, and where it was.
#[derive(Clone, Copy)]
pub(crate) struct Move {
    from: usize,
    len: usize,
    to: *mut u8,
}

impl Move {
    fn one<T>(self, place: &mut *mut T) {
        let offset = place.addr().wrapping_sub(self.from);
        if offset < self.len {
            *place = self.to.wrapping_add(offset).cast();
        }
    }

    /// A list of pointers with a null at its end, and where it is.
    ///
    /// # Safety
    ///
    /// - As for [`Relocate::each`].
    unsafe fn list(self, place: &mut *mut *mut c_char) {
        self.one(place);
        let mut at = *place;
        // SAFETY: the list lies in the new buffer.
        while let Some(entry) = unsafe { at.as_mut() }.filter(|entry| !entry.is_null()) {
            self.one(entry);
            at = at.wrapping_add(1);
        }
    }
}

impl Relocate for hostent {
    unsafe fn relocate(&mut self, by: Move) {
        by.one(&mut self.h_name);
        // SAFETY: forwarded.
        unsafe {
            by.list(&mut self.h_aliases);
            by.list(&mut self.h_addr_list);
        }
    }
}

impl Relocate for passwd {
    unsafe fn relocate(&mut self, by: Move) {
        by.one(&mut self.pw_name);
        by.one(&mut self.pw_passwd);
        by.one(&mut self.pw_gecos);
        by.one(&mut self.pw_dir);
        by.one(&mut self.pw_shell);
    }
}

impl Relocate for group {
    unsafe fn relocate(&mut self, by: Move) {
        by.one(&mut self.gr_name);
        by.one(&mut self.gr_passwd);
        // SAFETY: forwarded.
        unsafe { by.list(&mut self.gr_mem) };
    }
}

impl Relocate for spwd {
    unsafe fn relocate(&mut self, by: Move) {
        by.one(&mut self.sp_namp);
        by.one(&mut self.sp_pwdp);
    }
}

impl Relocate for servent {
    unsafe fn relocate(&mut self, by: Move) {
        by.one(&mut self.s_name);
        by.one(&mut self.s_proto);
        // SAFETY: forwarded.
        unsafe { by.list(&mut self.s_aliases) };
    }
}

impl Relocate for protoent {
    unsafe fn relocate(&mut self, by: Move) {
        by.one(&mut self.p_name);
        // SAFETY: forwarded.
        unsafe { by.list(&mut self.p_aliases) };
    }
}

/// What a helper found: the call's result, and the entry if there is one.
pub(crate) struct Found<E> {
    pub(crate) code: c_int,
    /// Of host look-ups.
    pub(crate) h_errno: c_int,
    pub(crate) entry: Option<E>,
    buffer: Buffer,
}

/// The buffer of an answer's strings and lists of pointers: `len` bytes, as far off
/// from an aligned place as the caller's, where libc puts the lists so that
/// they are aligned.
#[derive(Clone, Copy)]
pub(crate) struct BufferLayout {
    len: usize,
    shift: usize,
}

impl BufferLayout {
    /// In a buffer that is aligned as any answer wants it.
    pub(crate) fn aligned(len: usize) -> Self {
        Self { len, shift: 0 }
    }

    pub(crate) fn of(buf: *mut c_char, len: usize) -> Self {
        let shift = buf.addr() % size_of::<u64>();
        Self { len, shift }
    }
}

struct Buffer {
    words: Box<[u64]>,
    layout: BufferLayout,
}

impl Buffer {
    fn new(layout: BufferLayout) -> Self {
        let words = (layout.len + layout.shift).div_ceil(size_of::<u64>());
        Self {
            words: vec![0; words].into_boxed_slice(),
            layout,
        }
    }

    fn start(&mut self) -> *mut c_char {
        let words: *mut c_char = self.words.as_mut_ptr().cast();
        words.wrapping_add(self.layout.shift)
    }
}

// SAFETY: the entry's pointers lead into the buffer, or to constants of libc's.
unsafe impl<E> Send for Found<E> {}

/// The places that a call with `_r` fills in.
pub(crate) type ReentrantArgs<E> = (*mut E, *mut c_char, size_t, *mut *mut E, *mut c_int);

/// Makes such a call in a buffer of our own.
pub(crate) fn find<E: Relocate>(
    layout: BufferLayout,
    call: impl FnOnce(ReentrantArgs<E>) -> c_int,
) -> Found<E> {
    let mut buffer = Buffer::new(layout);
    let mut entry = MaybeUninit::<E>::zeroed();
    let (mut out, mut h_errno) = (std::ptr::null_mut(), 0);
    let code = call((
        entry.as_mut_ptr(),
        buffer.start(),
        layout.len,
        &raw mut out,
        &raw mut h_errno,
    ));
    Found {
        code,
        h_errno,
        // SAFETY: a result means that the entry was filled in.
        entry: (!out.is_null()).then(|| unsafe { entry.assume_init() }),
        buffer,
    }
}

/// Makes such a call in larger and larger buffers, until the answer fits in.
pub(crate) fn find_growing<E>(call: impl Fn(BufferLayout) -> Found<E>) -> Found<E> {
    /// The largest answer that is waited for.
    const LARGEST: usize = 1 << 20;
    let mut len = 1024;
    loop {
        let found = call(BufferLayout::aligned(len));
        if found.code != libc::ERANGE || len >= LARGEST {
            return found;
        }
        len *= 2;
    }
}

impl<E: Relocate> Found<E> {
    /// Moves the answer to where the caller wants it.
    ///
    /// # Safety
    ///
    /// - The places are the caller's of the `_r` call, of the same length.
    pub(crate) unsafe fn give(
        mut self,
        entry: *mut E,
        buf: *mut c_char,
        len: size_t,
        out: *mut *mut E,
    ) -> c_int {
        let Some(mut found) = self.entry else {
            // SAFETY: the caller's place.
            unsafe { out.write(std::ptr::null_mut()) };
            return self.code;
        };
        let ours = self.buffer.start();
        let by = Move {
            from: ours.addr(),
            len,
            to: buf.cast(),
        };
        // SAFETY: the caller's places; the buffer holds what ours held.
        unsafe {
            buf.copy_from_nonoverlapping(ours, len);
            found.relocate(by);
            entry.write(found);
            out.write(entry);
        }
        self.code
    }
}

/// The answer to a call without a place of the caller's: the thread's, until its next call
/// of the kind.
struct Latest {
    call: &'static str,
    answer: *mut dyn Any,
}

impl Drop for Latest {
    fn drop(&mut self) {
        // SAFETY: of a box, which only this frees.
        drop(unsafe { Box::from_raw(self.answer) });
    }
}

thread_local! {
    /// By call. One list, and not a place for each: a coroutine with thread-locals of its own
    /// has them all.
    static LATEST: RefCell<Vec<Latest>> = const { RefCell::new(Vec::new()) };
}

/// Keeps an answer in place of the one that `call` gave before, and says where its entry
/// is.
pub(crate) fn keep<E: 'static>(call: &'static str, found: Found<E>) -> *mut E {
    let answer = Box::into_raw(Box::new(found));
    let latest = Latest { call, answer };
    // While the thread's locals end, the place may be gone: then the answer
    // stays for ever.
    let mut latest = ManuallyDrop::new(latest);
    // An allocator may lock.
    let _no_park = NoPark::enter();
    let _ = LATEST.try_with(|all| {
        // SAFETY: once, as it is not used again.
        let latest = unsafe { ManuallyDrop::take(&mut latest) };
        let mut all = all.borrow_mut();
        match all.iter_mut().find(|one| one.call == call) {
            Some(before) => *before = latest,
            None => all.push(latest),
        }
    });
    // SAFETY: made just now, and freed by a later call at the earliest.
    let entry = unsafe { (*answer).entry.as_mut() };
    entry.map_or(std::ptr::null_mut(), std::ptr::from_mut)
}
