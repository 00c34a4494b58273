//! glibc's layout by name: its functions, and the offsets of the fields of
//! `struct pthread` that the code here reads and writes.
//!
//! glibc tells debuggers of its structures through symbols `_thread_db_…`,
//! each a description of one field. What they describe is found there and
//! nowhere else; the [probe](super::probe) learns the rest.

use std::ffi::{CStr, c_char, c_void};
use std::mem::{transmute, transmute_copy};
use std::ptr;

use super::Refusal;
use super::shape::SHAPE;
use super::thread_pointer::Offset;
use crate::sys::{library, thread_pointer};

/// A destructor of a pthread key.
pub(super) type KeyDestructor = unsafe extern "C" fn(*mut c_void);

/// glibc's functions, and the places of its fields.
pub(super) struct GlibcLayout {
    /// Makes a block's static TLS and its vector; a block, too, from null.
    pub(super) allocate_tls: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    /// Frees the vector and what it leads to; the block, too, with `true`.
    pub(super) deallocate_tls: unsafe extern "C" fn(*mut c_void, bool),
    /// Runs and forgets the thread's destructors of thread-locals.
    pub(super) call_tls_dtors: unsafe extern "C" fn(),
    /// Makes the thread's tables of `ctype.h` those of its locale.
    pub(super) ctype_init: unsafe extern "C" fn(),
    /// The least bytes of a thread's stack.
    pub(super) min_stack: unsafe extern "C" fn(*const libc::pthread_attr_t) -> usize,

    /// Of `struct pthread`: its size, and where things are in it. (The vector may be
    /// behind it.)
    pub(super) size: usize,
    pub(super) tid: usize,
    pub(super) list: usize,
    pub(super) dtv: usize,
    pub(super) specific: usize,
    /// Pointers to tables of key values.
    pub(super) specific_len: usize,

    /// The keys: where they are, the size of one, its destructor in it.
    keys: usize,
    key_size: usize,
    key_destructor: usize,

    /// The list of threads whose stacks are their makers' business.
    pub(super) user_stacks: usize,

    /// In libc's static TLS: this thread's resolver state, errno, and what
    /// `dlerror` will say.
    pub(super) resolver: Offset,
    pub(super) errno: Offset,
    pub(super) dlerror: Offset,
    /// All of libc's static TLS.
    pub(super) libc: (Offset, usize),
    /// Where the kernel says which processor it is, if glibc arranged that.
    pub(super) rseq: Option<Offset>,
}

// SAFETY: addresses and numbers that are the same for every thread.
unsafe impl Send for GlibcLayout {}
// SAFETY: as above; never changed.
unsafe impl Sync for GlibcLayout {}

/// glibc's description of a field: its bits, how many there are, its offset.
type Field = [u32; 3];

impl GlibcLayout {
    pub(super) fn find() -> Result<Self, Refusal> {
        let pointer = thread_pointer::get();
        let of_thread =
            |name: &CStr| Ok::<_, Refusal>(symbol(name)?.wrapping_sub(pointer) as Offset);
        let field = |name: &CStr, bits: u32| {
            // SAFETY: a symbol of this name is of this type.
            let [has, _, offset] = unsafe { read::<Field>(symbol(name)?) };
            if has == bits {
                Ok(offset as usize)
            } else {
                Err(format!("{name:?} has {has} bits where {bits} are expected"))
            }
        };
        // SAFETY: symbols of these names are of these types.
        let (size, key_size, specific_len, libc) = unsafe {
            (
                read::<u32>(symbol(c"_thread_db_sizeof_pthread")?) as usize,
                read::<u32>(symbol(c"_thread_db_sizeof_pthread_key_struct")?) as usize,
                read::<Field>(symbol(c"_thread_db_pthread_specific")?)[0] as usize / 64,
                libc_tls(symbol(c"__call_tls_dtors")?, pointer)?,
            )
        };
        let specific_bits = 64 * specific_len as u32;
        // SAFETY: glibc's functions of these names have these types.
        let layout = unsafe {
            Self {
                allocate_tls: function(c"_dl_allocate_tls")?,
                deallocate_tls: function(c"_dl_deallocate_tls")?,
                call_tls_dtors: function(c"__call_tls_dtors")?,
                ctype_init: function(c"__ctype_init")?,
                min_stack: function(c"__pthread_get_minstack")?,
                size,
                tid: field(c"_thread_db_pthread_tid", 32)?,
                list: field(c"_thread_db_pthread_list", 128)?,
                dtv: field(c"_thread_db_pthread_dtvp", 64)?,
                specific: field(c"_thread_db_pthread_specific", specific_bits)?,
                specific_len,
                keys: symbol(c"__pthread_keys")?,
                key_size,
                key_destructor: field(c"_thread_db_pthread_key_struct_destr", 64)?,
                user_stacks: symbol(c"_rtld_global")?
                    + field(c"_thread_db_rtld_global__dl_stack_user", 128)?,
                resolver: of_thread(c"__resp")?,
                errno: (libc::__errno_location().addr()).wrapping_sub(pointer) as Offset,
                dlerror: of_thread(c"__libc_dlerror_result")?,
                libc,
                rseq: symbol(c"__rseq_offset").ok().map(|at| read::<Offset>(at)),
            }
        };
        layout.plausible()
    }

    /// Refuses what can't be: later on there are only reads and writes.
    fn plausible(self) -> Result<Self, Refusal> {
        let word = size_of::<usize>();
        let fields = [
            (self.tid, size_of::<u32>()),
            (self.list, 2 * word),
            (self.dtv, word),
            (self.specific, self.specific_len * word),
        ];
        let (libc, libc_len) = self.libc;
        let libc_words = [self.resolver, self.errno, self.dlerror];
        let inside = |at: Offset| (libc..libc + libc_len as Offset).contains(&at);
        if self.size % word != 0
            || !(512..1 << 16).contains(&self.size)
            || fields.iter().any(|&(at, len)| at + len > self.control().1)
            || !libc_words.into_iter().all(inside)
            || !self.is_static(libc, libc_len)
        {
            return Err("its descriptions of struct pthread contradict each other".into());
        }
        Ok(self)
    }

    /// The control block: its distance from the thread pointer, and its bytes. It begins
    /// with `struct pthread`.
    pub(super) fn control(&self) -> (Offset, usize) {
        let begin = if SHAPE.thread_is_below {
            -(self.size as Offset)
        } else {
            0
        };
        (begin, self.size + SHAPE.head)
    }

    /// How far a field of `struct pthread` is from the thread pointer.
    pub(super) fn offset(&self, field: usize) -> Offset {
        self.control().0 + field as Offset
    }

    /// Whether thread-locals can lie there: on the other side of the control block.
    fn is_static(&self, at: Offset, len: usize) -> bool {
        if SHAPE.thread_is_below {
            at >= SHAPE.head as Offset
        } else {
            at + len as Offset <= 0
        }
    }

    /// The destructor of a key, if it has one.
    pub(super) fn key_destructor(&self, key: u32) -> Option<KeyDestructor> {
        let at = self.keys + key as usize * self.key_size + self.key_destructor;
        // SAFETY: glibc's table of keys, as it describes it. Whoever deletes a
        // key while a thread that has a value for it ends races with glibc's
        // own read of the same word.
        unsafe { transmute_copy(&read::<usize>(at)) }
    }
}

/// Where a symbol of glibc is. A thread-local one's is that of this thread.
fn symbol(name: &CStr) -> Result<usize, Refusal> {
    // SAFETY: a valid name.
    let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if at.is_null() {
        return Err(format!(
            "it has no {}; glibc 2.34 or later is needed",
            name.to_string_lossy()
        ));
    }
    Ok(at.expose_provenance())
}

/// # Safety
///
/// - A function of this name has this type.
pub(super) unsafe fn function<F: Copy>(name: &CStr) -> Result<F, Refusal> {
    const { assert!(size_of::<F>() == size_of::<usize>()) };
    // SAFETY: the caller's word.
    symbol(name).map(|at| unsafe { transmute_copy::<usize, F>(&at) })
}

/// # Safety
///
/// - There is a `T` at the address.
unsafe fn read<T: Copy>(at: usize) -> T {
    // SAFETY: the caller's word.
    unsafe { ptr::with_exposed_provenance::<T>(at).read() }
}

/// Where the static TLS of the library that has `inside` begins, and how long
/// it is.
fn libc_tls(inside: usize, pointer: usize) -> Result<(Offset, usize), Refusal> {
    match library::thread_locals_around(inside) {
        Some((at, len)) => Ok((at.wrapping_sub(pointer) as Offset, len)),
        None => Err("libc's own thread-locals are not where they are expected".into()),
    }
}

/// The version that this glibc says it has.
pub(super) fn version() -> &'static str {
    unsafe extern "C" {
        fn gnu_get_libc_version() -> *const c_char;
    }
    // SAFETY: a string that lives for ever.
    unsafe { CStr::from_ptr(gnu_get_libc_version()) }
        .to_str()
        .unwrap_or("?")
}

const _: () = assert!(size_of::<Option<KeyDestructor>>() == size_of::<usize>());
const _: unsafe fn(usize) -> Option<KeyDestructor> = |at| {
    // SAFETY: a nullable function pointer is a word.
    unsafe { transmute::<usize, Option<KeyDestructor>>(at) }
};
