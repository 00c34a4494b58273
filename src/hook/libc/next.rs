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

use crate::sys::syscall::{Answer, answer_c, errno};

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
