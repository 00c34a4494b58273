//! Signals to this very thread, all the time, without `SA_RESTART`.

use std::ptr;

/// Lasts until dropped.
pub(crate) struct Storm(libc::timer_t);

impl Storm {
    pub(crate) fn begin() -> Self {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: a handler that does nothing; all zeros are valid for these.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &action, ptr::null_mut()), 0);
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGUSR2;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer = ptr::null_mut();
            let made = libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer);
            assert_eq!(made, 0);
            let every = libc::timespec {
                tv_sec: 0,
                tv_nsec: 100_000,
            };
            let times = libc::itimerspec {
                it_interval: every,
                it_value: every,
            };
            assert_eq!(libc::timer_settime(timer, 0, &times, ptr::null_mut()), 0);
            Self(timer)
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // SAFETY: ours, deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}
