//! Floor 1: the memory that coroutines run on.

mod copy;
pub(crate) mod pool;
pub(crate) mod shared;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_ops;
#[cfg(test)]
mod numbers;
