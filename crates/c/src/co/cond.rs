//! Condition variables: `co_cond_…`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::c_int;
use std::time::{Duration, Instant};

use crore::{__driven, CoroutineId};

use crate::co::thread::{self, Opaque};
use crate::co::{refuse, routine};
use crate::error::{Code, Error, Result};
use crate::table::{Object, table};

/// Its thread's alone, as a coroutine is.
struct Cond {
    thread: u64,
    /// Coroutines that wait, by handle and by what runs them.
    waiters: RefCell<VecDeque<(u64, u64)>>,
}

// SAFETY: `with` gives it to its own thread only.
unsafe impl Sync for Cond {}
// SAFETY: as above.
unsafe impl Send for Cond {}

table!(Cond, "condition variable");

fn with<T>(cond: Opaque, f: impl FnOnce(&mut VecDeque<(u64, u64)>) -> T) -> Result<T> {
    let cond = Cond::table().get(cond.handle())?;
    if cond.thread != thread::number() {
        return Err(Error::new(
            Code::State,
            "the condition variable is another thread's",
        ));
    }
    Ok(f(&mut cond.waiters.borrow_mut()))
}

fn wait(cond: Opaque, deadline: Option<Instant>) -> Result {
    let me = thread::current();
    let Some(id) = CoroutineId::__of_caller().filter(|_| me != 0) else {
        return Err(Error::of(Code::Outside));
    };
    let waiter = (me, id.__to_bits());
    with(cond, |waiters| waiters.push_back(waiter))?;
    routine::with(me, |routine| routine.resumed.set(false))?;
    loop {
        __driven::suspend(deadline);
        // It ends with a signal, the time, a co_resume, or with the variable itself.
        let Ok(waits) = with(cond, |waiters| waiters.contains(&waiter)) else {
            return Ok(());
        };
        let late = deadline.is_some_and(|at| Instant::now() >= at);
        if !waits || late || routine::with(me, |routine| routine.resumed.get())? {
            return with(cond, |waiters| waiters.retain(|one| *one != waiter));
        }
    }
}

fn answer(function: &str, result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => refuse(function, error),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn co_cond_alloc() -> Opaque {
    let cond = Cond {
        thread: thread::number(),
        waiters: RefCell::default(),
    };
    Cond::table().insert(cond).map_or(Opaque::NULL, Opaque::of)
}

/// (Those that wait are woken.)
#[unsafe(no_mangle)]
pub extern "C" fn co_cond_free(cond: Opaque) -> c_int {
    let freed = with(cond, std::mem::take).and_then(|waiters| {
        Cond::table().remove(cond.handle())?;
        waiters
            .into_iter()
            .for_each(|(_, task)| __driven::wake(task));
        Ok(())
    });
    answer("co_cond_free", freed)
}

#[unsafe(no_mangle)]
pub extern "C" fn co_cond_signal(cond: Opaque) -> c_int {
    let first = with(cond, VecDeque::pop_front);
    let woken = first.map(|first| {
        if let Some((_, task)) = first {
            __driven::wake(task);
        }
    });
    answer("co_cond_signal", woken)
}

#[unsafe(no_mangle)]
pub extern "C" fn co_cond_broadcast(cond: Opaque) -> c_int {
    let all = with(cond, std::mem::take);
    let woken = all.map(|all| all.into_iter().for_each(|(_, task)| __driven::wake(task)));
    answer("co_cond_broadcast", woken)
}

/// 0 also when the time is over, as in libco; up to 0 ms: no limit.
#[unsafe(no_mangle)]
pub extern "C" fn co_cond_timedwait(cond: Opaque, timeout_ms: c_int) -> c_int {
    let limit = u64::try_from(timeout_ms).ok().filter(|limit| *limit > 0);
    let deadline = limit.map(|limit| Instant::now() + Duration::from_millis(limit));
    answer("co_cond_timedwait", wait(cond, deadline))
}
