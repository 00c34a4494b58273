//! Coroutine locals by key, after `pthread_key_create`.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::sync::{PoisonError, RwLock};

use crate::error::{Code, Error, Result, call, not_null};

type Destructor = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// What ends the values of each key. Keys are never given back.
static KEYS: RwLock<Vec<Option<Destructor>>> = RwLock::new(Vec::new());

const MOST: usize = 1024;

crore::coroutine_local! {
    static VALUES: RefCell<Values> = const { RefCell::new(Values(Vec::new())) };
}

struct Values(Vec<*mut c_void>);

impl Drop for Values {
    fn drop(&mut self) {
        let keys = KEYS.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (value, destructor) in self.0.drain(..).zip(keys) {
            if let Some(destructor) = destructor.filter(|_| !value.is_null()) {
                // SAFETY: the key's, for a value that was set with it.
                unsafe { destructor(value) };
            }
        }
    }
}

fn key(key: u32) -> Result<usize> {
    let keys = KEYS.read().unwrap_or_else(PoisonError::into_inner).len();
    match (key as usize).checked_sub(1).filter(|at| *at < keys) {
        Some(at) => Ok(at),
        None => Err(Error::new(Code::Invalid, format!("there is no key {key}"))),
    }
}

fn outside() -> Result {
    match crore::try_current() {
        Some(_) => Ok(()),
        None => Err(Error::of(Code::Outside)),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_key_create(
    place: *mut u32,
    destructor: Option<Destructor>,
) -> c_int {
    call(|| {
        let place = not_null(place, "the key's place")?;
        let mut keys = KEYS.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() == MOST {
            return Err(Error::new(
                Code::System,
                format!("all {MOST} keys are taken"),
            ));
        }
        keys.push(destructor);
        // SAFETY: the caller's place.
        unsafe { place.write(keys.len() as u32) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_local_set(id: u32, value: *mut c_void) -> c_int {
    call(|| {
        outside()?;
        let at = key(id)?;
        let set = VALUES.try_with(|values| {
            let values = &mut values.borrow_mut().0;
            if values.len() <= at {
                values.resize(at + 1, std::ptr::null_mut());
            }
            values[at] = value;
        });
        set.map_err(|_| Error::new(Code::State, "the coroutine's locals have ended"))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_local_get(id: u32, value: *mut *mut c_void) -> c_int {
    call(|| {
        outside()?;
        let (place, at) = (not_null(value, "the value's place")?, key(id)?);
        let found = VALUES.try_with(|values| values.borrow().0.get(at).copied());
        let found =
            found.map_err(|_| Error::new(Code::State, "the coroutine's locals have ended"))?;
        // SAFETY: the caller's place.
        unsafe { place.write(found.unwrap_or(std::ptr::null_mut())) };
        Ok(())
    })
}
