//! Coroutine locals, after [`std::thread_local!`]: what is global to the code
//! and private to each coroutine.
//!
//! Lives here: the macro and [`LocalKey`]. Does not live here: where a
//! coroutine keeps its values and when they end (the scheduler).

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io;
use std::ptr;
use std::thread;

use crate::sched::{CurrentTask, LocalLookup};
use crate::sys::tls;

/// Declares statics of which every coroutine has its own, after
/// [`std::thread_local!`]; each name is a [`LocalKey`](crate::local::LocalKey).
///
/// A value begins when its coroutine first uses it, and ends with the
/// coroutine; see [`LocalKey`](crate::local::LocalKey) for when exactly. Libraries that keep
/// something per thread keep it per worker here; this is how to keep it per
/// coroutine.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
///
/// crore::coroutine_local! {
///     /// Which request this coroutine serves.
///     pub static REQUEST: Cell<u32> = const { Cell::new(0) };
///     static LOG: std::cell::RefCell<Vec<String>> = Vec::new().into();
/// }
///
/// crore::run(|| {
///     let all: Vec<_> = (1..=3)
///         .map(|number| {
///             crore::spawn(move || {
///                 REQUEST.set(number);
///                 crore::yield_now(); // the others set theirs
///                 LOG.with_borrow_mut(|log| log.push(format!("served {}", REQUEST.get())));
///                 LOG.take()
///             })
///         })
///         .collect();
///     for (handle, number) in all.into_iter().zip(1..) {
///         assert_eq!(handle.join().unwrap(), [format!("served {number}")]);
///     }
///     assert_eq!(REQUEST.get(), 0);
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[macro_export]
macro_rules! coroutine_local {
    () => {};
    ($(#[$attribute:meta])* $vis:vis static $name:ident: $type:ty = const $value:block $(; $($rest:tt)*)?) => {
        $crate::__coroutine_local!([$(#[$attribute])*] [$vis] $name, $type, $value);
        $($crate::coroutine_local!($($rest)*);)?
    };
    ($(#[$attribute:meta])* $vis:vis static $name:ident: $type:ty = $value:expr $(; $($rest:tt)*)?) => {
        $crate::__coroutine_local!([$(#[$attribute])*] [$vis] $name, $type, $value);
        $($crate::coroutine_local!($($rest)*);)?
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __coroutine_local {
    ([$($attribute:tt)*] [$vis:vis] $name:ident, $type:ty, $value:expr) => {
        $($attribute)*
        $vis static $name: $crate::local::LocalKey<$type> = {
            fn begin() -> $type {
                $value
            }
            ::std::thread_local!(static OUTSIDE: $type = begin());
            $crate::local::LocalKey::__new(&OUTSIDE, begin)
        };
    };
}

/// Whether coroutines can have [thread-locals of their
/// own](crate::Builder::own_thread_locals) here.
///
/// The first call makes a few threads that end at once, to see what glibc
/// makes of a thread.
///
/// # Errors
///
/// `Unsupported`, with words that say why not: another platform or C library,
/// static linking, a glibc that is not as expected, a processor or kernel
/// without the instructions, a sanitizer.
///
/// # Examples
///
/// ```
/// match crore::local::own_thread_locals() {
///     Ok(()) => println!("every coroutine can be as a thread"),
///     Err(why) => println!("{why}"),
/// }
/// ```
pub fn own_thread_locals() -> io::Result<()> {
    tls::support().map_err(|why| io::Error::new(io::ErrorKind::Unsupported, why))
}

/// A value for each coroutine, declared by [`coroutine_local!`](crate::coroutine_local),
/// after [`std::thread::LocalKey`].
///
/// **Beginning.** At the first access, by the expression in the declaration;
/// the value is on the heap. An access costs a few nanoseconds (the first few
/// locals of a coroutine less than those after them).
///
/// **End.** With the coroutine: after its closure has returned, panicked or
/// unwound by cancellation, before the joiner gets the result. The destructors
/// run in the coroutine, so they may wait (unless it unwinds; one on a shared
/// stack that unwinds leaves them to the worker, to keep its frames small), the
/// value that began last first. One that panics does not keep the others, nor the result,
/// from their end. What a destructor begins ends after it (what
/// the destructor of a result that nobody joins begins is dropped by the
/// worker, outside the coroutine). A coroutine that never started has none; one
/// that is abandoned keeps its values for ever.
///
/// **Outside coroutines** (on plain threads, in futures given to
/// [`spawn_future`](crate::spawn_future), in destructors that run on a worker)
/// the value is the thread's, an ordinary thread-local.
///
/// ```
/// use std::cell::Cell;
/// crore::coroutine_local! { static REQUEST: Cell<u32> = const { Cell::new(0) }; }
///
/// crore::run(|| {
///     REQUEST.set(1);
///     let other = crore::spawn(|| REQUEST.get()).join().unwrap();
///     assert_eq!((REQUEST.get(), other), (1, 0)); // each coroutine has its own
/// }).unwrap();
/// ```
pub struct LocalKey<T: 'static> {
    outside: &'static thread::LocalKey<T>,
    begin: fn() -> T,
}

/// The value has been dropped, or is being dropped.
///
/// ```
/// crore::coroutine_local! { static NAME: String = String::from("nobody"); }
///
/// let length = NAME.try_with(|name| name.len()); // an error only in a destructor
/// assert!(matches!(length, Ok(6) | Err(crore::local::AccessError { .. })));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the coroutine local has ended already")
    }
}

impl Error for AccessError {}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn __new(outside: &'static thread::LocalKey<T>, begin: fn() -> T) -> Self {
        Self { outside, begin }
    }

    /// Calls `f` with this coroutine's value.
    ///
    /// # Panics
    ///
    /// When the value has ended: in destructors of locals.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::coroutine_local! { static NAME: String = String::from("nobody"); }
    /// assert_eq!(NAME.with(|name| name.len()), 6);
    /// ```
    #[inline]
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => too_late(error),
        }
    }

    /// As [`LocalKey::with`], for code that may run in a destructor.
    ///
    /// # Errors
    ///
    /// When the value has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::coroutine_local! { static COUNT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) }; }
    /// assert_eq!(COUNT.try_with(|count| count.get()), Ok(0));
    /// ```
    #[inline]
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        self.access(self.begin, f)
    }

    /// As `try_with`, where a value that is not there yet begins as `begin` says.
    #[inline]
    fn access<R>(
        &'static self,
        begin: impl FnOnce() -> T,
        f: impl FnOnce(&T) -> R,
    ) -> Result<R, AccessError> {
        let Some(cx) = CurrentTask::running() else {
            return self.outside.try_with(f).map_err(|_| AccessError);
        };
        let value = match cx.local(self.key()) {
            LocalLookup::Value(value) => value.cast(),
            LocalLookup::Nothing => self.begin(cx, begin)?,
            LocalLookup::Ended => return Err(AccessError),
        };
        // SAFETY: the value is of our type, as the key is our address. It ends
        // in this coroutine, which is not before `f` has returned; until then
        // it is only shared.
        Ok(f(unsafe { value.as_ref() }))
    }

    #[cold]
    fn begin(
        &'static self,
        cx: CurrentTask,
        begin: impl FnOnce() -> T,
    ) -> Result<ptr::NonNull<T>, AccessError> {
        let value = Box::new(begin());
        // It may have used this very local, which then began in there.
        match cx.local(self.key()) {
            LocalLookup::Nothing => Ok(cx.add_local(self.key(), value)),
            LocalLookup::Value(value) => Ok(value.cast()),
            LocalLookup::Ended => Err(AccessError),
        }
    }

    fn key(&'static self) -> *const () {
        ptr::from_ref(self).cast()
    }
}

#[cold]
#[track_caller]
fn too_late(error: AccessError) -> ! {
    panic!("{error}: a destructor of another local uses it; try_with would not panic");
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets this coroutine's value; one that has not begun begins with it.
    ///
    /// # Panics
    ///
    /// As [`LocalKey::with`]; so do all that follow.
    #[track_caller]
    pub fn set(&'static self, value: T) {
        set(self, value, Cell::new, |cell, value| cell.set(value));
    }

    /// A copy of this coroutine's value.
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value and leaves the default.
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Sets the value, and returns the one before.
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the value borrowed.
    ///
    /// # Panics
    ///
    /// As [`LocalKey::with`], and when it is borrowed mutably; so do all that
    /// follow when it is borrowed at all.
    #[track_caller]
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the value borrowed mutably.
    ///
    /// ```
    /// use std::cell::RefCell;
    /// crore::coroutine_local! { static LOG: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) }; }
    ///
    /// crore::run(|| {
    ///     LOG.with_borrow_mut(|log| log.push(7));
    ///     assert_eq!(LOG.take(), [7]);
    /// }).unwrap();
    /// ```
    #[track_caller]
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets this coroutine's value; one that has not begun begins with it.
    #[track_caller]
    pub fn set(&'static self, value: T) {
        set(self, value, RefCell::new, |cell, value| {
            *cell.borrow_mut() = value;
        });
    }

    /// Takes the value and leaves the default.
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets the value, and returns the one before.
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

/// Begins a cell with `value`, or puts it into the cell that is there.
#[track_caller]
fn set<C, T>(
    key: &'static LocalKey<C>,
    value: T,
    begin: impl FnOnce(T) -> C,
    put: impl FnOnce(&C, T),
) {
    let value = Cell::new(Some(value));
    let first = || begin(value.take().expect("a value begins once"));
    let done = key.access(first, |cell| {
        if let Some(value) = value.take() {
            put(cell, value);
        }
    });
    if let Err(error) = done {
        too_late(error);
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}
