//! Error codes, the text of the last error, and the border that no unwind crosses.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a call failed: the codes of `crore.h`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Code {
    Null = 1,
    Invalid,
    Outside,
    State,
    Timeout,
    Cancelled,
    Closed,
    WouldBlock,
    Panic,
    System,
}

/// What each code means, from 0 on.
const TEXTS: [&CStr; 11] = [
    c"success",
    c"a pointer that is needed is null",
    c"a handle that was released or never made, or a value out of range",
    c"called outside of a coroutine",
    c"the object is in another state than the call needs",
    c"the time is over",
    c"the coroutine is cancelled",
    c"the channel is closed",
    c"the call would have to wait",
    c"a panic",
    c"a call of the system failed",
];

/// A code, and a text that says more.
#[derive(Debug)]
pub(crate) struct Error(pub(crate) Code, pub(crate) String);

pub(crate) type Result<T = ()> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self(code, text.into())
    }

    /// A code whose text says all.
    pub(crate) fn of(code: Code) -> Self {
        Self(code, TEXTS[code as usize].to_string_lossy().into())
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotConnected => Code::Outside,
            io::ErrorKind::InvalidInput => Code::Invalid,
            _ => Code::System,
        };
        Self(code, error.to_string())
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs what a function does. Waits that are cut short unwind up to here.
#[inline(always)]
pub(crate) fn call(f: impl FnOnce() -> Result) -> c_int {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => fail(error),
        Err(payload) => fail(why(payload)),
    }
}

/// Keeps the text; the code.
#[cold]
pub(crate) fn fail(Error(code, text): Error) -> c_int {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // While a thread ends its last text may be gone.
    let _ = LAST.try_with(|last| last.replace(text));
    code as c_int
}

/// What has unwound: a panic's message, or a wait that was cut short.
#[cold]
fn why(payload: Box<dyn Any + Send>) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    // Before anything waits: until then the coroutine takes itself for unwinding.
    drop(payload);
    match text {
        Some(text) => Error(Code::Panic, text),
        None if crore::is_cancelled() => Error::of(Code::Cancelled),
        None => Error::of(Code::Timeout),
    }
}

/// A pointer that must not be null.
pub(crate) fn not_null<T>(pointer: *mut T, name: &str) -> Result<*mut T> {
    match pointer.is_null() {
        true => Err(Error(Code::Null, format!("{name} is null"))),
        false => Ok(pointer),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_strerror(code: c_int) -> *const c_char {
    let text = usize::try_from(code).ok().and_then(|code| TEXTS.get(code));
    text.unwrap_or(&c"an unknown code").as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}
