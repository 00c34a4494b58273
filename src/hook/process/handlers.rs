//! `sigaction` and `signal`: the program's handlers run behind a function of ours
//! (`sys/handlers.rs`), and the program sees its own.

use std::ffi::c_int;

use libc::sighandler_t;

use crate::hook::libc::hook;
use crate::sys::handlers::{meant, put_back, replace};

hook!(
    next,
    unsafe extern "C" fn sigaction(
        signal: c_int,
        new: *const libc::sigaction,
        old: *mut libc::sigaction,
    ) -> c_int {
        // SAFETY: the caller's places, or null, here and below.
        let mut ours = unsafe { new.as_ref() }.copied();
        let handler = ours.as_ref().map_or(libc::SIG_DFL, |new| new.sa_sigaction);
        let (installed, before) = replace(signal, handler);
        if let Some(ours) = &mut ours {
            ours.sa_sigaction = installed;
        }
        let new = ours.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: a live action or none; the caller's place.
        let answer = unsafe { sigaction::next(signal, new, old) };
        if answer != 0 {
            put_back(signal, before);
            return answer;
        }
        // SAFETY: the caller's place, or null.
        if let Some(old) = unsafe { old.as_mut() } {
            old.sa_sigaction = meant(old.sa_sigaction, before);
        }
        answer
    }
);

/// `signal` and its kin: they say how the handler is installed, and return the one before.
macro_rules! signal {
    ($($name:ident)*) => {
        $(hook!(
            next,
            unsafe extern "C" fn $name(signal: c_int, handler: sighandler_t) -> sighandler_t {
                let (installed, before) = replace(signal, handler);
                // SAFETY: the caller's signal and handler, or ours in front of it.
                let old = unsafe { $name::next(signal, installed) };
                if old == libc::SIG_ERR {
                    put_back(signal, before);
                }
                meant(old, before)
            }
        );)*
    };
}
signal! { signal bsd_signal ssignal sysv_signal __sysv_signal sigset }
