//! An answer on its way from a helper to the caller.
//!
//! Most answers are a C struct whose pointers lead into a buffer beside it.
//! libc fills in a buffer of our own, which is copied to the caller's, and
//! every pointer is moved along ([`Movable`]).

use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::thread::LocalKey;

use libc::{group, hostent, passwd, size_t};

/// A struct of libc's whose pointers lead into a buffer beside it.
pub(in crate::hook) trait Movable: Copy {
    /// Calls `shift` with each pointer into the buffer.
    ///
    /// # Safety
    ///
    /// - The pointers as `shift` leaves them lead into a buffer with the same
    ///   contents, which can be written.
    unsafe fn each(&mut self, shift: Shift);
}

/// How far the buffer has moved, and where it was.
#[derive(Clone, Copy)]
pub(in crate::hook) struct Shift {
    from: usize,
    len: usize,
    to: *mut u8,
}

impl Shift {
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
    /// - As for [`Movable::each`].
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

impl Movable for hostent {
    unsafe fn each(&mut self, shift: Shift) {
        shift.one(&mut self.h_name);
        // SAFETY: forwarded.
        unsafe {
            shift.list(&mut self.h_aliases);
            shift.list(&mut self.h_addr_list);
        }
    }
}

impl Movable for passwd {
    unsafe fn each(&mut self, shift: Shift) {
        shift.one(&mut self.pw_name);
        shift.one(&mut self.pw_passwd);
        shift.one(&mut self.pw_gecos);
        shift.one(&mut self.pw_dir);
        shift.one(&mut self.pw_shell);
    }
}

impl Movable for group {
    unsafe fn each(&mut self, shift: Shift) {
        shift.one(&mut self.gr_name);
        shift.one(&mut self.gr_passwd);
        // SAFETY: forwarded.
        unsafe { shift.list(&mut self.gr_mem) };
    }
}

/// What a helper found: the call's result, and the entry if there is one.
pub(in crate::hook) struct Found<E> {
    pub(in crate::hook) code: c_int,
    /// Of host look-ups.
    pub(in crate::hook) h_errno: c_int,
    pub(in crate::hook) entry: Option<E>,
    buffer: Buffer,
}

/// Where an answer's strings and lists of pointers go: `len` bytes, as far off
/// from an aligned place as the caller's, where libc puts the lists so that
/// they are aligned.
#[derive(Clone, Copy)]
pub(in crate::hook) struct Room {
    len: usize,
    shift: usize,
}

impl Room {
    /// In a buffer that is aligned as any answer wants it.
    pub(in crate::hook) fn aligned(len: usize) -> Self {
        Self { len, shift: 0 }
    }

    pub(in crate::hook) fn of(buf: *mut c_char, len: usize) -> Self {
        let shift = buf.addr() % size_of::<u64>();
        Self { len, shift }
    }
}

struct Buffer {
    words: Box<[u64]>,
    room: Room,
}

impl Buffer {
    fn new(room: Room) -> Self {
        let words = (room.len + room.shift).div_ceil(size_of::<u64>());
        Self {
            words: vec![0; words].into_boxed_slice(),
            room,
        }
    }

    fn start(&mut self) -> *mut c_char {
        let words: *mut c_char = self.words.as_mut_ptr().cast();
        words.wrapping_add(self.room.shift)
    }
}

// SAFETY: the entry's pointers lead into the buffer, or to constants of libc's.
unsafe impl<E> Send for Found<E> {}

/// The places of a call with `_r`.
pub(in crate::hook) type Ask<E> = (*mut E, *mut c_char, size_t, *mut *mut E, *mut c_int);

/// Makes such a call in a buffer of our own.
pub(in crate::hook) fn find<E: Movable>(
    room: Room,
    call: impl FnOnce(Ask<E>) -> c_int,
) -> Found<E> {
    let mut buffer = Buffer::new(room);
    let mut entry = MaybeUninit::<E>::zeroed();
    let (mut out, mut h_errno) = (std::ptr::null_mut(), 0);
    let code = call((
        entry.as_mut_ptr(),
        buffer.start(),
        room.len,
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

impl<E: Movable> Found<E> {
    /// Moves the answer to where the caller wants it.
    ///
    /// # Safety
    ///
    /// - The places are the caller's of the `_r` call, of the same length.
    pub(in crate::hook) unsafe fn give(
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
        let shift = Shift {
            from: ours.addr(),
            len,
            to: buf.cast(),
        };
        // SAFETY: the caller's places; the buffer holds what ours held.
        unsafe {
            buf.copy_from_nonoverlapping(ours, len);
            found.each(shift);
            entry.write(found);
            out.write(entry);
        }
        self.code
    }
}

/// The answer to a call without a place of the caller's: the thread's, until
/// its next call of the kind. Null for none.
pub(in crate::hook) struct Latest<E>(Cell<*mut Found<E>>);

impl<E> Latest<E> {
    pub(in crate::hook) const fn none() -> Self {
        Self(Cell::new(std::ptr::null_mut()))
    }
}

impl<E> Drop for Latest<E> {
    fn drop(&mut self) {
        if !self.0.get().is_null() {
            // SAFETY: of a box, and nobody else frees it.
            drop(unsafe { Box::from_raw(self.0.get()) });
        }
    }
}

/// Keeps an answer in place of the one before, and says where its entry is.
pub(in crate::hook) fn keep<E>(place: &'static LocalKey<Latest<E>>, found: Found<E>) -> *mut E {
    let latest = Box::into_raw(Box::new(found));
    // While the thread's locals end, the place may be gone: then the answer
    // stays for ever.
    let _ = place.try_with(|place| drop(Latest(Cell::new(place.0.replace(latest)))));
    // SAFETY: made just now, and freed by a later call at the earliest.
    let entry = unsafe { (*latest).entry.as_mut() };
    entry.map_or(std::ptr::null_mut(), std::ptr::from_mut)
}
