//! `JoinError`: why a coroutine has no result.

use std::any::Any;
use std::fmt;
use std::io;

/// Why [`JoinHandle::join`](crate::JoinHandle::join) has no value to give.
///
/// Where [`std::thread::JoinHandle::join`] has only the panic payload, a
/// coroutine can also have been cancelled, or never have got a stack. The payload is
/// looked at as std's is; [`resume_unwind`](std::panic::resume_unwind) takes
/// [`into_panic`](Self::into_panic).
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

    fn payload(&self) -> Option<&(dyn Any + Send)> {
        match &self.0 {
            Reason::Panicked(payload) => Some(&**payload),
            _ => None,
        }
    }

    /// Whether the coroutine panicked with a payload of this type.
    ///
    /// ```
    /// crore::run(|| {
    ///     let error = crore::spawn(|| panic!("lost")).join().unwrap_err();
    ///     assert!(error.is::<&str>() && !error.is::<String>());
    /// }).unwrap();
    /// ```
    pub fn is<T: Any>(&self) -> bool {
        self.downcast_ref::<T>().is_some()
    }

    /// The panic's payload, if there was a panic with one of this type.
    ///
    /// ```
    /// crore::run(|| {
    ///     let error = crore::spawn(|| panic!("lost")).join().unwrap_err();
    ///     assert_eq!(error.downcast_ref::<&str>(), Some(&"lost"));
    /// }).unwrap();
    /// ```
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        self.payload()?.downcast_ref()
    }

    /// As [`downcast_ref`](Self::downcast_ref), to be changed.
    pub fn downcast_mut<T: Any>(&mut self) -> Option<&mut T> {
        match &mut self.0 {
            Reason::Panicked(payload) => payload.downcast_mut(),
            _ => None,
        }
    }

    /// The panic's payload, owned.
    ///
    /// # Errors
    ///
    /// Gives the error back if the coroutine did not panic, or with another type.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let error = crore::spawn(|| std::panic::panic_any(7)).join().unwrap_err();
    ///     assert_eq!(*error.downcast::<i32>().unwrap(), 7);
    /// }).unwrap();
    /// ```
    pub fn downcast<T: Any>(self) -> Result<Box<T>, JoinError> {
        let payload = self.try_into_panic()?;
        payload.downcast().map_err(Self::panicked)
    }

    fn message(&self) -> Option<&str> {
        let text = self.downcast_ref::<&str>().copied();
        text.or_else(|| self.downcast_ref::<String>().map(String::as_str))
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
