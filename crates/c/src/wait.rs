//! Sleeping, yielding, parking, time limits, calls without hooks.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use crore::CoroutineId;

use crate::error::{Code, Error, call, not_null};
use crate::task::{Call, Entry, write};

#[unsafe(no_mangle)]
pub extern "C" fn crore_yield() -> c_int {
    call(|| {
        crore::yield_now();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_sleep(nanoseconds: u64) -> c_int {
    call(|| {
        crore::sleep(Duration::from_nanos(nanoseconds));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_park() -> c_int {
    call(|| match CoroutineId::__of_caller() {
        None => Err(Error::of(Code::Outside)),
        Some(_) => {
            crore::park();
            Ok(())
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_park_timeout(nanoseconds: u64) -> c_int {
    call(|| match CoroutineId::__of_caller() {
        None => Err(Error::of(Code::Outside)),
        Some(_) => {
            crore::park_timeout(Duration::from_nanos(nanoseconds));
            Ok(())
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_timeout(
    nanoseconds: u64,
    f: Option<Entry>,
    arg: *mut c_void,
    result: *mut *mut c_void,
) -> c_int {
    call(|| {
        let call = Call::new(f, arg)?;
        if CoroutineId::__of_caller().is_none() {
            return Err(Error::of(Code::Outside));
        }
        match crore::timeout(Duration::from_nanos(nanoseconds), || call.run()) {
            Err(_) => Err(Error::of(Code::Timeout)),
            Ok(value) => {
                // SAFETY: the caller's place.
                unsafe { write(result, value.0) };
                Ok(())
            }
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_unhooked(
    f: Option<Entry>,
    arg: *mut c_void,
    result: *mut *mut c_void,
) -> c_int {
    call(|| {
        let call = Call::new(f, arg)?;
        let value = crore::unhooked(|| call.run());
        // SAFETY: the caller's place.
        unsafe { write(result, value.0) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_is_cancelled(cancelled: *mut c_int) -> c_int {
    call(|| {
        let place = not_null(cancelled, "the answer's place")?;
        // SAFETY: the caller's place.
        unsafe { place.write(crore::is_cancelled().into()) };
        Ok(())
    })
}
