//! [`ReadyCase`]: what a select waits for that is no hand-over: a state that only the
//! select's side can end.
//!
//! A channel's partner completes a case, so it has to claim the select first. Here
//! nobody completes anything: a waker is left where the state changes, the select looks
//! again when it was woken, and claims itself if the state is as wanted. What is
//! consumed is consumed after the claim ([`Ready::output`]); so a case that did not win
//! has taken nothing.

use std::fmt;
use std::task::Waker;
use std::time::Instant;

use super::select::{Case, Operation, SelectContext};

/// What a [`ReadyCase`] waits for; nobody else implements it.
///
/// ```
/// use crore::sync::channel::{Ready, ReadyCase, select};
///
/// fn wait<R: Ready>(mut case: ReadyCase<R>) -> R::Output {
///     select(&mut [&mut case]);
///     case.take().expect("there is no other")
/// }
/// wait(crore::select::after(std::time::Duration::from_millis(1)));
/// ```
pub trait Ready {
    /// What the case gives.
    type Output;

    /// Whether it can go on, which nobody else may undo. If not, and there is a waker,
    /// has that woken when it may.
    #[doc(hidden)]
    fn is_ready(&mut self, waker: Option<&Waker>) -> bool;

    /// Nobody waits any more.
    #[doc(hidden)]
    fn leave(&mut self);

    /// Whether it is asked before the others of a select, whose turn changes.
    #[doc(hidden)]
    fn goes_first(&self) -> bool {
        false
    }

    /// When it is to be asked again without having been woken.
    #[doc(hidden)]
    fn ask_again(&self) -> Option<Instant> {
        None
    }

    /// Ends a case that has won.
    #[doc(hidden)]
    fn output(&mut self) -> Self::Output;
}

/// A case of a [`select!`](crate::select!) that is no channel's: of a
/// [`broadcast`](crate::sync::broadcast), a [`watch`](crate::sync::watch), a
/// [`CancelToken`](crate::CancelToken), a join, or from [`crate::select!`].
///
/// ```
/// use crore::sync::channel::select;
/// let token = crore::CancelToken::new();
/// token.cancel();
/// let mut case = token.case();
/// assert_eq!(select(&mut [&mut case]), 0);
/// assert!(case.take().is_some());
/// ```
pub struct ReadyCase<R: Ready> {
    source: R,
    won: bool,
}

impl<R: Ready> ReadyCase<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, won: false }
    }

    /// What it gives, if this case was done.
    pub fn take(&mut self) -> Option<R::Output> {
        std::mem::take(&mut self.won).then(|| {
            let output = self.source.output();
            self.source.leave();
            output
        })
    }
}

impl<R: Ready> Case for ReadyCase<R> {}

impl<R: Ready> Operation for ReadyCase<R> {
    fn attempt(&mut self, context: Option<SelectContext<'_>>) -> bool {
        self.won = false;
        let Some(context) = context else {
            self.won = self.source.is_ready(None);
            return self.won;
        };
        self.look_again(&context)
    }

    fn look_again(&mut self, context: &SelectContext<'_>) -> bool {
        let ready = self.source.is_ready(Some(context.waker));
        self.won = ready && context.claim();
        // Also if another has won meanwhile: then there is nothing to wait for.
        ready
    }

    fn goes_first(&self) -> bool {
        self.source.goes_first()
    }

    fn ask_again(&self) -> Option<Instant> {
        self.source.ask_again()
    }

    fn set_waker(&mut self, _waker: &Waker) {
        // It is looked at next, with the waker.
    }

    fn settle(&mut self, _keep: bool) {
        // What has won keeps its place until its output is taken.
        if !self.won {
            self.source.leave();
        }
    }
}

impl<R: Ready> fmt::Debug for ReadyCase<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyCase").finish_non_exhaustive()
    }
}
