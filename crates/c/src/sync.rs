//! Mutexes and condition variables.

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::mem::transmute;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crore::sync::{Condvar, Mutex, MutexGuard, TryLockError};

use crate::error::{Code, Error, Result, call, not_null};
use crate::table::{Object, table};

/// `crore_mutex` of the header.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MutexHandle {
    id: u64,
}

/// `crore_cond` of the header.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct CondHandle {
    id: u64,
}

/// A mutex that keeps its guard for C. Who turns `held` off has the guard.
struct Lock {
    guard: UnsafeCell<Option<MutexGuard<'static, ()>>>,
    held: AtomicBool,
    mutex: Mutex<()>,
}

// SAFETY: the guard's place is used by who holds the lock alone: before `held` is turned
// on, and by the one that turns it off.
unsafe impl Sync for Lock {}
// SAFETY: the guard may be dropped anywhere: no thread is bound to it.
unsafe impl Send for Lock {}

table!(Lock, "mutex");

struct Cond(Condvar);

table!(Cond, "condition variable");

impl Lock {
    fn keep(&self, guard: MutexGuard<'_, ()>) {
        // SAFETY: the guard refers to the mutex beside it, and is dropped before: it
        // stands first, and places do not move.
        let guard = unsafe { transmute::<MutexGuard<'_, ()>, MutexGuard<'static, ()>>(guard) };
        // SAFETY: the lock is ours.
        unsafe { *self.guard.get() = Some(guard) };
        self.held.store(true, Ordering::Release);
    }

    fn take(&self) -> Result<MutexGuard<'static, ()>> {
        let guard = match self.held.swap(false, Ordering::AcqRel) {
            // SAFETY: the one that has turned it off.
            true => unsafe { (*self.guard.get()).take() },
            false => None,
        };
        guard.ok_or_else(|| Error::new(Code::State, "the mutex is not locked"))
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_mutex_new(mutex: *mut MutexHandle) -> c_int {
    call(|| {
        let place = not_null(mutex, "the mutex's place")?;
        let id = Lock::table().insert(Lock {
            guard: UnsafeCell::new(None),
            held: AtomicBool::new(false),
            mutex: Mutex::new(()),
        })?;
        // SAFETY: the caller's place.
        unsafe { place.write(MutexHandle { id }) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_mutex_free(mutex: MutexHandle) -> c_int {
    call(|| {
        let table = Lock::table();
        if table.get(mutex.id)?.held.load(Ordering::Acquire) {
            return Err(Error::new(Code::State, "the mutex is locked"));
        }
        table.remove(mutex.id).map(drop)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_lock(mutex: MutexHandle) -> c_int {
    call(|| {
        let lock = Lock::table().get(mutex.id)?;
        lock.keep(lock.mutex.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    })
}

fn tried(lock: &Lock, timeout: Option<u64>) -> Result {
    let tried = match timeout {
        None => lock.mutex.try_lock(),
        Some(nanoseconds) => lock.mutex.try_lock_for(Duration::from_nanos(nanoseconds)),
    };
    match tried {
        Ok(guard) => lock.keep(guard),
        Err(TryLockError::Poisoned(poisoned)) => lock.keep(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => {
            let code = if timeout.is_some() {
                Code::Timeout
            } else {
                Code::WouldBlock
            };
            return Err(Error::of(code));
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_try_lock(mutex: MutexHandle) -> c_int {
    call(|| tried(&*Lock::table().get(mutex.id)?, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_lock_timeout(mutex: MutexHandle, nanoseconds: u64) -> c_int {
    call(|| tried(&*Lock::table().get(mutex.id)?, Some(nanoseconds)))
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_unlock(mutex: MutexHandle) -> c_int {
    call(|| Lock::table().get(mutex.id)?.take().map(drop))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_cond_new(cond: *mut CondHandle) -> c_int {
    call(|| {
        let place = not_null(cond, "the condition variable's place")?;
        let id = Cond::table().insert(Cond(Condvar::new()))?;
        // SAFETY: the caller's place.
        unsafe { place.write(CondHandle { id }) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_cond_free(cond: CondHandle) -> c_int {
    call(|| Cond::table().remove(cond.id).map(drop))
}

/// Waits; the lock is held again afterwards, unless the wait was cut short.
fn wait(cond: CondHandle, mutex: MutexHandle, limit: Option<u64>) -> Result {
    let (cond, lock) = (Cond::table().get(cond.id)?, Lock::table().get(mutex.id)?);
    let guard = lock.take()?;
    let waited = catch_unwind(AssertUnwindSafe(|| match limit {
        None => (
            cond.0.wait(guard).unwrap_or_else(PoisonError::into_inner),
            false,
        ),
        Some(limit) => {
            let waited = cond.0.wait_timeout(guard, Duration::from_nanos(limit));
            let (guard, ended) = waited.unwrap_or_else(PoisonError::into_inner);
            (guard, ended.timed_out())
        }
    }));
    // Another code than that of the wait's own limit, after which the lock is held.
    let Ok((guard, late)) = waited.map_err(drop) else {
        let text = "the wait was cut short, so the mutex is not locked";
        return Err(Error::new(Code::Cancelled, text));
    };
    lock.keep(guard);
    match late {
        true => Err(Error::of(Code::Timeout)),
        false => Ok(()),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_cond_wait(cond: CondHandle, mutex: MutexHandle) -> c_int {
    call(|| wait(cond, mutex, None))
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_cond_wait_timeout(
    cond: CondHandle,
    mutex: MutexHandle,
    nanoseconds: u64,
) -> c_int {
    call(|| wait(cond, mutex, Some(nanoseconds)))
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_cond_signal(cond: CondHandle) -> c_int {
    call(|| {
        Cond::table().get(cond.id)?.0.notify_one();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_cond_broadcast(cond: CondHandle) -> c_int {
    call(|| {
        Cond::table().get(cond.id)?.0.notify_all();
        Ok(())
    })
}
