//! The promise: what a program installs for a signal is what it finds there, and what
//! is called, although crore's code comes first.
#![cfg(all(feature = "hook", not(target_feature = "crt-static")))]

use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::handlers::succeeds;

static CALLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn plain(signal: c_int) {
    assert_eq!(signal, libc::SIGUSR1);
    CALLED.fetch_add(1, SeqCst);
}

extern "C" fn with_info(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    assert!(!context.is_null());
    // SAFETY: the kernel's.
    assert_eq!(unsafe { (*info).si_signo }, signal);
    // In a handler no coroutine runs: its calls are a thread's.
    assert!(crore::try_current().is_none());
    CALLED.fetch_add(100, SeqCst);
}

unsafe extern "C" {
    fn bsd_signal(signal: c_int, handler: libc::sighandler_t) -> libc::sighandler_t;
    fn ssignal(signal: c_int, handler: libc::sighandler_t) -> libc::sighandler_t;
    fn sysv_signal(signal: c_int, handler: libc::sighandler_t) -> libc::sighandler_t;
    fn __sysv_signal(signal: c_int, handler: libc::sighandler_t) -> libc::sighandler_t;
    fn sigset(signal: c_int, handler: libc::sighandler_t) -> libc::sighandler_t;
}

fn present() -> libc::sigaction {
    // SAFETY: a place; zeros are valid.
    unsafe {
        let mut action = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGUSR1, null(), &mut action), 0);
        action
    }
}

fn install(handler: usize, flags: c_int) -> libc::sigaction {
    // SAFETY: handlers that do what handlers may; zeros are valid.
    unsafe {
        let (mut new, mut old): (libc::sigaction, _) = (std::mem::zeroed(), std::mem::zeroed());
        (new.sa_sigaction, new.sa_flags) = (handler, flags);
        assert_eq!(libc::sigaction(libc::SIGUSR1, &new, &mut old), 0);
        old
    }
}

fn what_is_installed_is_found_and_called() {
    let (plain, with_info) = (plain as *const () as usize, with_info as *const () as usize);
    let raise = || {
        CALLED.store(0, SeqCst);
        // SAFETY: handled.
        unsafe { libc::raise(libc::SIGUSR1) };
        CALLED.load(SeqCst)
    };
    assert_eq!(install(plain, 0).sa_sigaction, libc::SIG_DFL);
    assert_eq!(raise(), 1);
    let old = install(with_info, libc::SA_SIGINFO | libc::SA_RESETHAND);
    assert_eq!(
        (old.sa_sigaction, old.sa_flags & libc::SA_SIGINFO),
        (plain, 0)
    );
    let now = present();
    assert_eq!(now.sa_sigaction, with_info);
    assert_eq!(now.sa_flags & libc::SA_SIGINFO, libc::SA_SIGINFO);
    assert_eq!(raise(), 100);
    assert_eq!(present().sa_sigaction, libc::SIG_DFL);
    // SAFETY: as above, and none.
    unsafe {
        assert_eq!(libc::signal(libc::SIGUSR1, plain), libc::SIG_DFL);
        assert_eq!(raise(), 1);
        assert_eq!(libc::signal(libc::SIGUSR1, libc::SIG_IGN), plain);
        assert_eq!(raise(), 0);
        assert_eq!(install(plain, 0).sa_sigaction, libc::SIG_IGN);
        // What is refused leaves everything as it was.
        assert_eq!(libc::signal(libc::SIGKILL, plain), libc::SIG_ERR);
        assert_eq!(libc::sigaction(libc::SIGKILL, &present(), null_mut()), -1);
        assert_eq!(libc::signal(1_000, plain), libc::SIG_ERR);
    }
    assert_eq!(raise(), 1);
    special_values_are_no_handlers(plain);
    let kin = [bsd_signal, ssignal, sysv_signal, __sysv_signal, sigset];
    for (nth, install) in kin.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe {
            libc::signal(libc::SIGUSR1, libc::SIG_IGN);
            assert_eq!(install(libc::SIGUSR1, plain), libc::SIG_IGN, "{nth}");
            assert_eq!(raise(), 1, "{nth}");
            // System V's is gone by now.
            let before = install(libc::SIGUSR1, plain);
            assert!([plain, libc::SIG_DFL].contains(&before), "{nth}");
            assert_eq!(install(libc::SIGUSR1, libc::SIG_IGN), plain, "{nth}");
        }
    }
}

/// `SIG_HOLD`, which libc names and the crate of this name does not.
const SIG_HOLD: usize = 2;

fn special_values_are_no_handlers(plain: usize) {
    // SAFETY: handlers, or what means something else.
    unsafe {
        libc::signal(libc::SIGUSR1, plain);
        // It blocks the signal, and leaves the handler.
        assert_eq!(sigset(libc::SIGUSR1, SIG_HOLD), plain);
        assert_eq!(present().sa_sigaction, plain);
        CALLED.store(0, SeqCst);
        libc::raise(libc::SIGUSR1);
        assert_eq!(CALLED.load(SeqCst), 0);
        assert_eq!(sigset(libc::SIGUSR1, SIG_HOLD), SIG_HOLD);
        // The signal was blocked until now, and comes.
        assert_eq!(sigset(libc::SIGUSR1, plain), SIG_HOLD);
        assert_eq!(CALLED.load(SeqCst), 1);
        // Nobody is to send it now.
        assert_eq!(libc::signal(libc::SIGUSR1, SIG_HOLD), plain);
        assert_eq!(present().sa_sigaction, SIG_HOLD);
        assert_eq!(install(plain, 0).sa_sigaction, SIG_HOLD);
    }
}

#[test]
fn what_is_installed_is_found_and_called_on_a_thread_and_in_a_coroutine() {
    succeeds(
        "what_is_installed_is_found_and_called_on_a_thread_and_in_a_coroutine",
        || {
            what_is_installed_is_found_and_called();
            // SAFETY: no handler.
            unsafe { libc::signal(libc::SIGUSR1, libc::SIG_DFL) };
            crore::run(what_is_installed_is_found_and_called).unwrap();
        },
    );
}
