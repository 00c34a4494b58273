//! The next definition: libc's own function behind a hook of the same name
//! (`RTLD_NEXT`), for calls that are not a coroutine's.
//!
//! All are looked up by a constructor (`hook/table.rs`), before `main`: a look-up
//! takes locks of the dynamic linker, which a signal handler or a forked child
//! must not meet. Constructors of libraries run earlier; what they call is looked
//! up there and then.

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::mem::transmute;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use libc::{clockid_t, timespec};

use crate::sys::syscall::{Answer, answer_c, answer_int, errno, sys};

/// Where the next definition of one name is kept.
pub(crate) struct NextDefinition {
    /// Ends in a NUL.
    name: &'static str,
    function: AtomicPtr<c_void>,
}

/// The constructor has looked all names up.
static LOOKED_UP: AtomicBool = AtomicBool::new(false);

impl NextDefinition {
    pub(crate) const fn new(name: &'static str, without_next: *mut c_void) -> Self {
        Self {
            name,
            function: AtomicPtr::new(without_next),
        }
    }

    #[inline(always)]
    pub(crate) fn function(&self) -> *mut c_void {
        self.function.load(Ordering::Relaxed)
    }

    /// Looks the name up. False: there is none.
    pub(crate) fn look_up(&self) -> bool {
        let name = CStr::from_bytes_with_nul(self.name.as_bytes());
        let next = next_definition(name.expect("one NUL, at the end"));
        if !next.is_null() {
            self.function.store(next, Ordering::Relaxed);
        }
        !next.is_null()
    }

    /// Looks the name up, if the constructor has not done so yet.
    pub(crate) fn look_up_early(&self) -> bool {
        !LOOKED_UP.load(Ordering::Relaxed) && self.look_up()
    }
}

/// The constructor is done.
pub(crate) fn all_looked_up() {
    LOOKED_UP.store(true, Ordering::Relaxed);
}

/// As C returns what the kernel said.
pub(crate) fn answer(answer: Answer) -> isize {
    answer_c(answer, errno())
}

macro_rules! real {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty = $bare:expr;)*) => {
        $(
            /// libc's own.
            ///
            /// # Safety
            ///
            /// - As for the C function.
            #[inline(always)]
            pub(crate) unsafe fn $name($($arg: $ty),*) -> $ret {
                // SAFETY: the slot holds `first`, `bare`, or what the dynamic
                // linker says is the function of this name and type.
                let function: types::$name = unsafe { transmute(slots::$name.load(Ordering::Relaxed)) };
                // SAFETY: forwarded.
                unsafe { function($($arg),*) }
            }
        )*

        #[allow(non_camel_case_types, reason = "named after C's functions")]
        mod types {
            use super::*;
            $(pub(crate) type $name = unsafe extern "C" fn($($ty),*) -> $ret;)*
        }

        #[allow(non_upper_case_globals, reason = "named after C's functions")]
        mod slots {
            use super::*;
            $(pub(crate) static $name: AtomicPtr<c_void> =
                AtomicPtr::new(first::$name as types::$name as *mut c_void);)*
        }

        /// What the slots hold until the first call of any of them.
        mod first {
            use super::*;
            $(#[cold]
            pub(crate) unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
                look_up_all();
                // SAFETY: forwarded; the slot no longer leads here.
                unsafe { super::$name($($arg),*) }
            })*
        }

        /// The kernel's calls, for where there is no next definition.
        mod bare {
            use super::*;
            $(#[cold]
            pub(crate) unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
                // SAFETY: forwarded: the same arguments, the kernel's call.
                unsafe { $bare }
            })*
        }

        fn look_up_functions() {
            $(look_up(&slots::$name, stringify!($name), bare::$name as types::$name as *mut c_void);)*
        }
    };
}

/// Looks all of them up, at the first call of one: a look-up takes locks of
/// the dynamic linker, which a signal handler or a forked child must not meet.
/// (std's start-up calls `poll`, before `main` and any other thread.)
#[cold]
fn look_up_all() {
    look_up_functions();
    look_up_variadic();
}

fn look_up(slot: &AtomicPtr<c_void>, name: &str, bare: *mut c_void) {
    let mut with_nul = [0; 32];
    with_nul[..name.len()].copy_from_slice(name.as_bytes());
    let next = CStr::from_bytes_until_nul(&with_nul).map_or(std::ptr::null_mut(), next_definition);
    slot.store(if next.is_null() { bare } else { next }, Ordering::Relaxed);
}

/// The definition of `name` after ours in link order, null if there is none.
#[cfg(not(target_feature = "crt-static"))]
pub(crate) fn next_definition(name: &CStr) -> *mut c_void {
    // SAFETY: a valid name; dlsym calls nothing of ours.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

#[cfg(target_feature = "crt-static")]
pub(crate) fn next_definition(_: &CStr) -> *mut c_void {
    std::ptr::null_mut()
}

fn int(answer: Answer) -> c_int {
    answer_int(answer, errno())
}

real! {
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int = int(sys!(SYS_socket, family, kind, protocol));
    fn socketpair(family: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int =
        int(sys!(SYS_socketpair, family, kind, protocol, pair));
    fn pipe(ends: *mut c_int) -> c_int = int(sys!(SYS_pipe2, ends, 0));
    fn pipe2(ends: *mut c_int, flags: c_int) -> c_int = int(sys!(SYS_pipe2, ends, flags));
    fn close(fd: c_int) -> c_int = int(sys!(SYS_close, fd));
    fn closefrom(first: c_int) -> () = {
        let _ = sys!(SYS_close_range, first, c_uint::MAX, 0);
    };
    fn dup(fd: c_int) -> c_int = int(sys!(SYS_dup, fd));
    fn dup2(fd: c_int, new: c_int) -> c_int = if fd == new {
        int(sys!(SYS_fcntl, fd, libc::F_GETFD).map(|_| fd as usize))
    } else {
        int(sys!(SYS_dup3, fd, new, 0))
    };
    fn dup3(fd: c_int, new: c_int, flags: c_int) -> c_int = int(sys!(SYS_dup3, fd, new, flags));
    fn close_range(low: c_uint, high: c_uint, flags: c_int) -> c_int =
        int(sys!(SYS_close_range, low, high, flags));
}

// Some of C's functions are variadic, so they are called through variadic
// pointers; their last argument is as wide as a pointer at most.
macro_rules! real_variadic {
    ($(fn $name:ident($($arg:ident: $ty:ty),*; $last:ident), $slot:ident = $bare:expr;)*) => {
        $(
            static $slot: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

            /// libc's own.
            ///
            /// # Safety
            ///
            /// - As for the C function.
            pub(crate) unsafe fn $name($($arg: $ty,)* $last: usize) -> c_int {
                type Function = unsafe extern "C" fn($($ty,)* ...) -> c_int;
                let next = $slot.load(Ordering::Relaxed);
                if next.is_null() {
                    // Before the look-up, or nothing was found.
                    // SAFETY: forwarded: the same arguments, the kernel's call.
                    return int(unsafe { $bare });
                }
                // SAFETY: the dynamic linker's function of this name and type.
                let function: Function = unsafe { transmute(next) };
                // SAFETY: forwarded.
                unsafe { function($($arg,)* $last) }
            }
        )*

        fn look_up_variadic() {
            $(look_up(&$slot, stringify!($name), std::ptr::null_mut());)*
        }
    };
}

real_variadic! {
    fn fcntl(fd: c_int, what: c_int; arg), FCNTL = sys!(SYS_fcntl, fd, what, arg);
    fn fcntl64(fd: c_int, what: c_int; arg), FCNTL64 = sys!(SYS_fcntl, fd, what, arg);
    fn ioctl(fd: c_int, what: libc::c_ulong; arg), IOCTL = sys!(SYS_ioctl, fd, what, arg);
}

// Libc's own functions that no system call stands for, looked up when first
// called: where there is no next definition, we define no such function.
#[cfg(not(target_feature = "crt-static"))]
macro_rules! real_only {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty;)*) => {
        real_only! { extern "C": $(fn $name($($arg: $ty),*) -> $ret;)* }
    };
    (extern $abi:literal: $(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty;)*) => {
        $(
            /// libc's own.
            ///
            /// # Safety
            ///
            /// - As for the C function.
            pub(crate) unsafe fn $name($($arg: $ty),*) -> $ret {
                static SLOT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
                if SLOT.load(Ordering::Relaxed).is_null() {
                    look_up(&SLOT, stringify!($name), std::ptr::null_mut());
                }
                let function = SLOT.load(Ordering::Relaxed);
                assert!(!function.is_null(), concat!("libc has no ", stringify!($name)));
                // SAFETY: the dynamic linker's function of this name and type.
                let function: unsafe extern $abi fn($($ty),*) -> $ret = unsafe { transmute(function) };
                // SAFETY: forwarded.
                unsafe { function($($arg),*) }
            }
        )*
    };
}

// Locks of glibc.
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
use libc::{
    pthread_barrier_t, pthread_barrierattr_t, pthread_cond_t, pthread_mutex_t, pthread_rwlock_t,
    sem_t,
};

#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
real_only! {
    fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int;
    fn pthread_mutex_timedlock(mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int;
    fn pthread_mutex_clocklock(mutex: *mut pthread_mutex_t, clock: clockid_t, time: *const timespec) -> c_int;
    fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int;
    fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int;
    fn pthread_cond_wait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int;
    fn pthread_cond_timedwait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int;
    fn pthread_cond_clockwait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, clock: clockid_t, time: *const timespec) -> c_int;
    fn pthread_cond_signal(cond: *mut pthread_cond_t) -> c_int;
    fn pthread_cond_broadcast(cond: *mut pthread_cond_t) -> c_int;
    fn pthread_rwlock_rdlock(rwlock: *mut pthread_rwlock_t) -> c_int;
    fn pthread_rwlock_timedrdlock(rwlock: *mut pthread_rwlock_t, time: *const timespec) -> c_int;
    fn pthread_rwlock_clockrdlock(rwlock: *mut pthread_rwlock_t, clock: clockid_t, time: *const timespec) -> c_int;
    fn pthread_rwlock_tryrdlock(rwlock: *mut pthread_rwlock_t) -> c_int;
    fn pthread_rwlock_wrlock(rwlock: *mut pthread_rwlock_t) -> c_int;
    fn pthread_rwlock_timedwrlock(rwlock: *mut pthread_rwlock_t, time: *const timespec) -> c_int;
    fn pthread_rwlock_clockwrlock(rwlock: *mut pthread_rwlock_t, clock: clockid_t, time: *const timespec) -> c_int;
    fn pthread_rwlock_trywrlock(rwlock: *mut pthread_rwlock_t) -> c_int;
    fn pthread_rwlock_unlock(rwlock: *mut pthread_rwlock_t) -> c_int;
    fn sem_wait(sem: *mut sem_t) -> c_int;
    fn sem_timedwait(sem: *mut sem_t, time: *const timespec) -> c_int;
    fn sem_clockwait(sem: *mut sem_t, clock: clockid_t, time: *const timespec) -> c_int;
    fn sem_post(sem: *mut sem_t) -> c_int;
    fn pthread_barrier_init(barrier: *mut pthread_barrier_t, attributes: *const pthread_barrierattr_t, count: c_uint) -> c_int;
    fn pthread_barrier_wait(barrier: *mut pthread_barrier_t) -> c_int;
    fn pthread_barrier_destroy(barrier: *mut pthread_barrier_t) -> c_int;
}

#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
real_only! {
    extern "C-unwind":
    fn pthread_once(control: *mut libc::pthread_once_t, init: unsafe extern "C-unwind" fn()) -> c_int;
}
