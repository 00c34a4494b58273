//! Generators: bodies that hand out a value and stop, until somebody resumes them.
//!
//! A generator is a function on a stack of its own, like a coroutine, but nothing
//! schedules it: [`Generator::resume`] runs it up to its next
//! [`yield_`](Yielder::yield_), at the price of a switch. It needs no runtime, and works
//! on plain threads and inside of every kind of coroutine. Any function that the body
//! calls may yield: recursion is no matter.
//!
//! ```
//! use crore::generator::Generator;
//!
//! enum Tree { Leaf, Node(Box<Tree>, u32, Box<Tree>) }
//!
//! fn walk(tree: &Tree, out: &crore::generator::Yielder<(), u32>) {
//!     if let Tree::Node(left, value, right) = tree {
//!         walk(left, out);
//!         out.yield_(*value);
//!         walk(right, out);
//!     }
//! }
//!
//! let node = |l, v, r| Tree::Node(Box::new(l), v, Box::new(r));
//! let tree = node(node(Tree::Leaf, 1, Tree::Leaf), 2, node(Tree::Leaf, 3, Tree::Leaf));
//! let values = Generator::new(move |out, ()| walk(&tree, out));
//! assert_eq!(values.collect::<Vec<_>>(), [1, 2, 3]);
//! ```
//!
//! # Borrowing
//!
//! A [`Generator`] may be kept, moved and forgotten, and borrows nothing. One that
//! borrows lives in a [`scope`], which ends it: if it could be forgotten, as
//! everything may, a thread that its body waits for (`std::thread::scope`) would go on
//! with borrows that are over.
//!
//! # Where it runs
//!
//! A generator belongs to the coroutine that resumes it first; one in a [`scope`] to the
//! coroutine in which the scope begins. Its frames may refer to what is that coroutine's:
//! a [local](crate::coroutine_local), a time limit, a scope. So [`Generator::resume`] panics
//! elsewhere, and of one that is dropped elsewhere before its end the frames stay as they
//! are, as if it had been forgotten. Before it is resumed and after its end it may go
//! anywhere on its thread.
//!
//! Outside of coroutines, and in those on shared stacks, it belongs to the thread, and ends
//! with the thread's thread-locals (those of a coroutine that has its own end with that):
//! one that is kept in a thread-local can't be resumed any more when that ends, and what is
//! on its stack is not dropped. A destructor of a thread-local may use generators that it
//! makes itself.
//!
//! # Its end
//!
//! A generator that is dropped before its end unwinds: its `yield_` does not return, and
//! the values on its stack are dropped. A panic of the body comes out of the `resume`
//! that ran it. In a program that aborts on panics nothing unwinds: the stack of an
//! unfinished [`Generator`] is left as it is, and a [`scope`] that ends before its
//! generator ends the process, with a message.
//!
//! # Waiting inside of a body
//!
//! - On a plain thread it blocks that, as it would without the generator.
//! - In a coroutine with a stack of its own the coroutine waits, and the generator
//!   with it: crore's own waits (`park`, `lock`, `recv`, `join` …) and hooked calls of
//!   libc park.
//! - In a coroutine on a shared stack the body is outside of coroutines, as for
//!   [`try_current`](crate::try_current): calls of libc and [`sleep`](crate::sleep) block
//!   the worker, what would wait for another coroutine panics.
//!
//! A body should not yield inside of [`timeout`](crate::timeout),
//! [`unhooked`](crate::unhooked) or a closure that a thread-local was lent to: these are
//! its coroutine's, and last until the body goes on.

mod grow;
mod home;
mod raw;
mod stack;
mod yielder;

use std::fmt;
use std::io;
use std::iter::FusedIterator;

use self::raw::{RawGenerator, Stubborn};

pub use self::grow::{grow, maybe_grow};
pub(crate) use self::stack::counts as stack_counts;
pub use self::yielder::{GeneratorState, Yielder};

/// Bytes of a generator's stack where none are named: 64 KiB, as a coroutine's.
pub const DEFAULT_STACK_SIZE: usize = 64 * 1024;

/// A body on a stack of its own that is resumed by hand. See the [module](self).
///
/// It stays on its thread, and once it has begun in its coroutine: the body may have
/// anything on its stack. Resuming it from within itself does not compile, as `resume`
/// takes `&mut self`.
///
/// If `In` is `()` it is an [`Iterator`] of what it yields; what it returns is dropped
/// then.
///
/// ```
/// use crore::generator::Generator;
/// let fibonacci = Generator::<(), u64>::new(|out, ()| {
///     let (mut a, mut b) = (0, 1);
///     loop {
///         out.yield_(a);
///         (a, b) = (b, a + b);
///     }
/// });
/// assert_eq!(fibonacci.skip(10).step_by(5).take(3).collect::<Vec<_>>(), [55, 610, 6765]);
/// ```
///
/// It does not leave its thread, and what it borrows has to be in a [`scope`]:
///
/// ```compile_fail,E0277
/// let one = crore::generator::Generator::new(|out, ()| out.yield_(1));
/// std::thread::spawn(move || one.count());
/// ```
///
/// ```compile_fail,E0597
/// let mut one = {
///     let values = vec![1, 2];
///     crore::generator::Generator::<(), i32>::new(|out, ()| out.yield_(values.len() as i32))
/// };
/// one.next();
/// ```
pub struct Generator<In, Y, R = ()> {
    raw: RawGenerator<In, Y, R>,
}

impl<In: 'static, Y: 'static, R: 'static> Generator<In, Y, R> {
    /// A generator that has not begun. The first value that it is resumed with is the
    /// body's second argument.
    ///
    /// # Panics
    ///
    /// When there is no stack for it: see [`Generator::with_stack_size`].
    ///
    /// # Examples
    ///
    /// ```
    /// let mut ten = crore::generator::Generator::new(|out, ()| (0..10).for_each(|i| out.yield_(i)));
    /// assert_eq!(ten.next(), Some(0));
    /// assert_eq!(ten.sum::<i32>(), 45);
    /// ```
    pub fn new<F>(body: F) -> Self
    where
        F: FnOnce(&Yielder<In, Y>, In) -> R + 'static,
    {
        Self::with_stack_size(DEFAULT_STACK_SIZE, body)
            .unwrap_or_else(|error| panic!("no stack for a generator: {error}"))
    }

    /// [`Generator::new`] with a stack of at least `bytes` (and at least 32 KiB). A body
    /// that needs more ends the process, with a message.
    ///
    /// # Errors
    ///
    /// - `InvalidInput`: more than a gigabyte.
    /// - `QuotaExceeded`: a million stacks of the size are in use, or generators have
    ///   stacks of 16 different sizes already.
    /// - `OutOfMemory`: no address space, or no more memory mappings.
    /// - `Unsupported`: with another C library than glibc the end of thread-locals can't be
    ///   noticed. A [`scope`] works there.
    ///
    /// # Examples
    ///
    /// ```
    /// use crore::generator::Generator;
    /// let mut deep = Generator::with_stack_size(1 << 20, |out, ()| {
    ///     let large = [1_u8; 500_000];
    ///     out.yield_(large.iter().map(|&byte| u32::from(byte)).sum::<u32>());
    /// })?;
    /// assert_eq!(deep.next(), Some(500_000));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn with_stack_size<F>(bytes: usize, body: F) -> io::Result<Self>
    where
        F: FnOnce(&Yielder<In, Y>, In) -> R + 'static,
    {
        // SAFETY: nothing is borrowed: all is `'static`.
        let raw = unsafe { RawGenerator::new(bytes, Stubborn::Leaks, body) }?;
        Ok(Self { raw })
    }
}

impl<In, Y, R> Generator<In, Y, R> {
    /// Runs the body up to its next `yield_`, which returns `input`, or its end.
    ///
    /// # Panics
    ///
    /// - With the body's panic, if it panics; it has ended then.
    /// - In another coroutine than before, or outside of it; after thread-locals have ended
    ///   that it may refer to: see the [module](self). It can still be resumed where it
    ///   belongs.
    /// - When it has ended:
    ///
    /// ```should_panic
    /// let mut none = crore::generator::Generator::<(), ()>::new(|_, ()| ());
    /// none.resume(());
    /// none.resume(());
    /// ```
    ///
    /// # Examples
    ///
    /// ```
    /// use crore::generator::{Generator, GeneratorState::*};
    /// let mut echo = Generator::new(|out, mut word: &'static str| {
    ///     while word != "stop" {
    ///         word = out.yield_(word.len());
    ///     }
    ///     "stopped"
    /// });
    /// assert_eq!(echo.resume("hello"), Yielded(5));
    /// assert_eq!(echo.resume("me"), Yielded(2));
    /// assert_eq!(echo.resume("stop"), Complete("stopped"));
    /// assert!(echo.is_done());
    /// ```
    #[inline(always)]
    pub fn resume(&mut self, input: In) -> GeneratorState<Y, R> {
        self.raw.resume(input)
    }

    /// Whether the body has returned or panicked.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.raw.is_done()
    }
}

impl<Y, R> Iterator for Generator<(), Y, R> {
    type Item = Y;

    #[inline(always)]
    fn next(&mut self) -> Option<Y> {
        self.raw.next()
    }
}

impl<Y, R> FusedIterator for Generator<(), Y, R> {}

impl<In, Y, R> fmt::Debug for Generator<In, Y, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator")
            .field("is_done", &self.is_done())
            .finish_non_exhaustive()
    }
}

/// A generator that may borrow, and lives until its [`scope`] ends.
///
/// It is used as a [`Generator`] is. Dropping it, or forgetting it, does nothing. It does
/// not leave its thread either:
///
/// ```compile_fail,E0277
/// crore::generator::scope(
///     |out, ()| out.yield_(1),
///     |one| std::thread::scope(|s| s.spawn(|| one.count()).join().unwrap()),
/// );
/// ```
///
/// ```
/// use crore::generator::{self, ScopedGenerator};
///
/// fn pairs(numbers: ScopedGenerator<'_, (), u32>) -> Vec<(u32, u32)> {
///     let numbers: Vec<_> = numbers.collect();
///     numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
/// }
///
/// let text = String::from("1 2 3 4");
/// let found = generator::scope(
///     |out, ()| text.split(' ').for_each(|word| out.yield_(word.parse().unwrap())),
///     pairs,
/// );
/// assert_eq!(found, [(1, 2), (3, 4)]);
/// ```
pub struct ScopedGenerator<'scope, In, Y, R = ()> {
    raw: &'scope mut RawGenerator<In, Y, R>,
}

impl<In, Y, R> ScopedGenerator<'_, In, Y, R> {
    /// As [`Generator::resume`].
    ///
    /// # Panics
    ///
    /// As [`Generator::resume`].
    #[inline(always)]
    pub fn resume(&mut self, input: In) -> GeneratorState<Y, R> {
        self.raw.resume(input)
    }

    /// As [`Generator::is_done`].
    #[inline]
    pub fn is_done(&self) -> bool {
        self.raw.is_done()
    }
}

impl<Y, R> Iterator for ScopedGenerator<'_, (), Y, R> {
    type Item = Y;

    #[inline(always)]
    fn next(&mut self) -> Option<Y> {
        self.raw.next()
    }
}

impl<Y, R> FusedIterator for ScopedGenerator<'_, (), Y, R> {}

impl<In, Y, R> fmt::Debug for ScopedGenerator<'_, In, Y, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedGenerator")
            .field("is_done", &self.is_done())
            .finish_non_exhaustive()
    }
}

/// Lends `f` a generator whose `body` may borrow, and ends it when `f` has ended.
///
/// # Panics
///
/// With `f`'s panic; when there is no stack for it (see [`Generator::with_stack_size`]).
///
/// Ends the process, with a message, if the body has not ended and can't be unwound: in
/// programs that abort on panics, or if it swallows a thousand unwinds.
///
/// # Examples
///
/// Both may borrow, and values may, too:
///
/// ```
/// use crore::generator::{self, GeneratorState::*};
///
/// let words = vec!["one".to_owned(), "two".to_owned(), "three".to_owned()];
/// let mut seen = 0;
/// let longest = generator::scope(
///     |out, ()| {
///         for word in &words {
///             seen += 1;
///             out.yield_(word.as_str());
///         }
///     },
///     |words| words.max_by_key(|word| word.len()),
/// );
/// assert_eq!((longest, seen), (Some("three"), 3));
/// ```
///
/// The generator does not leave its scope:
///
/// ```compile_fail
/// let kept = crore::generator::scope(|out, ()| out.yield_(1), |one| one);
/// ```
pub fn scope<In, Y, R, T>(
    body: impl FnOnce(&Yielder<In, Y>, In) -> R,
    f: impl FnOnce(ScopedGenerator<'_, In, Y, R>) -> T,
) -> T {
    scope_with_stack_size(DEFAULT_STACK_SIZE, body, f)
        .unwrap_or_else(|error| panic!("no stack for a generator: {error}"))
}

/// [`scope`] with a stack of at least `bytes` for the body.
///
/// # Errors
///
/// As [`Generator::with_stack_size`]; then `f` does not run.
///
/// # Panics
///
/// As [`scope`].
///
/// # Examples
///
/// ```
/// let numbers = [3, 1, 2];
/// let sorted = crore::generator::scope_with_stack_size(
///     128 * 1024,
///     |out, ()| {
///         let mut sorted = numbers;
///         sorted.sort_unstable();
///         sorted.iter().for_each(|&number| out.yield_(number));
///     },
///     |sorted| sorted.collect::<Vec<_>>(),
/// )?;
/// assert_eq!(sorted, [1, 2, 3]);
/// # std::io::Result::Ok(())
/// ```
pub fn scope_with_stack_size<In, Y, R, T>(
    bytes: usize,
    body: impl FnOnce(&Yielder<In, Y>, In) -> R,
    f: impl FnOnce(ScopedGenerator<'_, In, Y, R>) -> T,
) -> io::Result<T> {
    // SAFETY: `raw` stays in this frame, which it can't be moved out of, and is dropped
    // when the frame ends; what the types borrow outlives the call.
    let mut raw = unsafe { RawGenerator::new(bytes, Stubborn::Aborts, body) }?;
    Ok(f(ScopedGenerator { raw: &mut raw }))
}
