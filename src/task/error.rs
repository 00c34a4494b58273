//! `JoinError`: why a coroutine has no result.

use std::any::Any;
use std::fmt;
use std::io;

/// Why [`JoinHandle::join`](crate::JoinHandle::join) has no value to give.
///
/// Where [`std::thread::JoinHandle::join`] has only the panic payload, a
/// coroutine can also have been cancelled, or never have got a stack.
///
/// ```
/// crore::run(|| {
///     let error = crore::spawn(|| panic!("lost")).join().unwrap_err();
///     assert!(error.is_panic() && !error.is_cancelled());
///     assert_eq!(*error.into_panic().downcast::<&str>().unwrap(), "lost");
/// }).unwrap();
/// ```
pub struct JoinError(Reason);

enum Reason {
    Panicked(Box<dyn Any + Send + 'static>),
    Cancelled,
    /// Cancelled, but its frames were forgotten, not unwound.
    Abandoned,
    NotStarted(io::Error),
}

impl JoinError {
    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        Self(Reason::Panicked(payload))
    }

    pub(crate) fn cancelled() -> Self {
        Self(Reason::Cancelled)
    }

    pub(crate) fn abandoned() -> Self {
        Self(Reason::Abandoned)
    }

    pub(crate) fn not_started(error: io::Error) -> Self {
        Self(Reason::NotStarted(error))
    }

    /// Whether the coroutine panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Reason::Panicked(_))
    }

    /// Whether the coroutine was cancelled before it ended.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Reason::Cancelled | Reason::Abandoned)
    }

    /// Whether what the coroutine borrowed may still be in use.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.0, Reason::Abandoned)
    }

    /// The panic's payload, as [`std::thread::Result`] has it.
    ///
    /// # Errors
    ///
    /// Gives the error back if the coroutine did not panic.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let handle = crore::spawn(crore::park);
    ///     handle.cancel();
    ///     let error = handle.join().unwrap_err().try_into_panic().unwrap_err();
    ///     assert!(error.is_cancelled());
    /// }).unwrap();
    /// ```
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send + 'static>, JoinError> {
        match self.0 {
            Reason::Panicked(payload) => Ok(payload),
            other => Err(Self(other)),
        }
    }

    /// The panic's payload, for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// If the coroutine did not panic; see [`JoinError::is_panic`].
    pub fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        self.try_into_panic()
            .unwrap_or_else(|other| panic!("not a panic: {other}"))
    }

    fn message(&self) -> Option<&str> {
        let Reason::Panicked(payload) = &self.0 else {
            return None;
        };
        payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.message()) {
            (Reason::Panicked(_), Some(text)) => write!(f, "coroutine panicked: {text}"),
            (Reason::Panicked(_), None) => write!(f, "coroutine panicked"),
            (Reason::Cancelled | Reason::Abandoned, _) => write!(f, "coroutine was cancelled"),
            (Reason::NotStarted(error), _) => write!(f, "coroutine could not start: {error}"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Reason::NotStarted(error) => Some(error),
            _ => None,
        }
    }
}

impl From<JoinError> for io::Error {
    /// `Interrupted` would be retried by careless loops, so: `Other`.
    fn from(error: JoinError) -> Self {
        io::Error::other(error.to_string())
    }
}
