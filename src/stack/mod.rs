//! stub
use std::num::NonZeroUsize;
#[derive(Clone, Copy, Debug)]
pub(crate) struct StackBounds { pub(crate) base: NonZeroUsize, pub(crate) limit: NonZeroUsize }
