//! What passes between a generator's body and its resumer.

use std::fmt;

use crate::switch::Port;

/// What a generator was resumed for.
///
/// ```
/// use crore::generator::{Generator, GeneratorState};
/// let mut one = Generator::new(|out, ()| { out.yield_(1); "end" });
/// assert_eq!(one.resume(()), GeneratorState::Yielded(1));
/// assert_eq!(one.resume(()), GeneratorState::Complete("end"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GeneratorState<Y, R> {
    /// It yielded this, and can be resumed.
    Yielded(Y),
    /// It returned this.
    Complete(R),
}

/// How the body of a generator hands out values: on its own stack, so not on other
/// threads.
///
/// ```compile_fail,E0277
/// crore::generator::Generator::<(), i32>::new(|out, ()| {
///     std::thread::scope(|s| s.spawn(|| out.yield_(1)).join().unwrap());
/// });
/// ```
///
/// ```
/// use crore::generator::{Generator, Yielder};
///
/// fn twice(out: &Yielder<(), &'static str>, word: &'static str) {
///     out.yield_(word);
///     out.yield_(word);
/// }
///
/// let words = Generator::new(|out, ()| {
///     twice(out, "hear");
///     out.yield_("!");
/// });
/// assert_eq!(words.collect::<Vec<_>>(), ["hear", "hear", "!"]);
/// ```
pub struct Yielder<In, Y> {
    pub(super) port: Port<In, Y>,
}

impl<In, Y> Yielder<In, Y> {
    /// Hands `value` to whoever resumed the generator; returns what it is resumed with
    /// next.
    ///
    /// # Panics
    ///
    /// - On another stack than the generator's own: inside of a generator or a coroutine
    ///   that the body made, or in a signal handler.
    /// - In a destructor that runs while the body unwinds. A panic there aborts, as ever.
    ///
    /// Unwinds (without a panic message) when the generator is dropped. Code that
    /// catches that and yields again is unwound again, a thousand times; then the
    /// generator's stack is left as it is, with a message, and never used again.
    ///
    /// # Examples
    ///
    /// ```
    /// use crore::generator::{Generator, GeneratorState};
    ///
    /// let mut sum = Generator::new(|out, first: u32| {
    ///     let mut sum = first;
    ///     loop {
    ///         sum += out.yield_(sum);
    ///     }
    /// });
    /// assert_eq!(sum.resume(1), GeneratorState::<_, ()>::Yielded(1));
    /// assert_eq!(sum.resume(10), GeneratorState::Yielded(11));
    /// assert_eq!(sum.resume(5), GeneratorState::Yielded(16));
    /// ```
    #[inline(always)]
    pub fn yield_(&self, value: Y) -> In {
        self.port.pass(value)
    }
}

impl<In, Y> fmt::Debug for Yielder<In, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}
