//! Environment variables of which each coroutine has its own: `co_set_env_list`, and libc's
//! functions for it.
//!
//! `getenv` runs before anything is set up, and in allocators; so without a list it
//! only looks through `environ`, as libc's does.

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::transmute;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::co::{routine, thread};

/// A coroutine's values, by the variable's place in the list.
pub(super) type Values = Vec<Option<CString>>;

static LIST: OnceLock<Vec<CString>> = OnceLock::new();
static LISTED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    static environ: *const *const c_char;
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn co_set_env_list(names: *const *const c_char, count: usize) {
    if names.is_null() {
        return;
    }
    // SAFETY: so many strings of the caller's, or null.
    let names = (0..count).filter_map(|at| unsafe {
        let name = *names.add(at);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_owned())
    });
    let names = names.filter(|name| !name.is_empty()).collect();
    // The first list stays, as in libco.
    if LIST.set(names).is_ok() {
        LISTED.store(true, Ordering::Release);
    }
}

/// The place of a variable that the running coroutine has for itself.
fn own(name: &CStr) -> Option<usize> {
    if !LISTED.load(Ordering::Acquire) || !routine::is_hooked() {
        return None;
    }
    LIST.get()?.iter().position(|listed| **listed == *name)
}

fn change<T>(at: usize, f: impl FnOnce(&mut Option<CString>) -> T) -> Option<T> {
    let changed = routine::with(thread::current(), |routine| {
        let mut values = routine.environment.borrow_mut();
        if values.len() <= at {
            values.resize(at + 1, None);
        }
        f(&mut values[at])
    });
    changed.ok()
}

/// libc's function of this name.
fn next(name: &CStr) -> *mut libc::c_void {
    // SAFETY: a valid name.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

/// # Safety
///
/// - As for libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getenv(name: *const c_char) -> *mut c_char {
    // SAFETY: the caller's string.
    let name = unsafe { CStr::from_ptr(name) };
    if let Some(at) = own(name) {
        let value = change(at, |value| value.as_ref().map(|value| value.as_ptr()));
        return value.flatten().unwrap_or(ptr::null()).cast_mut();
    }
    // SAFETY: the process's list, whose last entry is null; changing it while another
    // thread reads it is not allowed by C either.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = *entry;
            let length = name.count_bytes();
            if libc::strncmp(text, name.as_ptr(), length) == 0
                && *text.add(length) == b'=' as c_char
            {
                return text.add(length + 1).cast_mut();
            }
            entry = entry.add(1);
        }
    }
    ptr::null_mut()
}

/// # Safety
///
/// - As for libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setenv(
    name: *const c_char,
    value: *const c_char,
    overwrite: c_int,
) -> c_int {
    type Set = unsafe extern "C" fn(*const c_char, *const c_char, c_int) -> c_int;
    if !name.is_null() && !value.is_null() {
        // SAFETY: the caller's strings.
        let (name, value) = unsafe { (CStr::from_ptr(name), CStr::from_ptr(value)) };
        if let Some(at) = own(name) {
            change(at, |own| {
                if overwrite != 0 || own.is_none() {
                    *own = Some(value.to_owned());
                }
            });
            return 0;
        }
    }
    // SAFETY: libc's function, of this type, with the caller's arguments.
    unsafe { transmute::<*mut libc::c_void, Set>(next(c"setenv"))(name, value, overwrite) }
}

/// # Safety
///
/// - As for libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unsetenv(name: *const c_char) -> c_int {
    type Unset = unsafe extern "C" fn(*const c_char) -> c_int;
    if !name.is_null() {
        // SAFETY: the caller's string.
        if let Some(at) = own(unsafe { CStr::from_ptr(name) }) {
            change(at, |own| *own = None);
            return 0;
        }
    }
    // SAFETY: libc's function, of this type, with the caller's argument.
    unsafe { transmute::<*mut libc::c_void, Unset>(next(c"unsetenv"))(name) }
}
