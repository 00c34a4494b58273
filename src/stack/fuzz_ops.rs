//! Random operations against naive models, for `cargo fuzz` and `cargo test`
//! alike.
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run pool -- -max_len=128
//! RUSTC_BOOTSTRAP=1 cargo fuzz run shared_bytes -- -max_len=256
//! ```
//!
//! The model of the pool keeps a whole copy of each frame; that of shared
//! stacks, of each task's stack. How an input is read is in `util/fuzz.rs`.

mod pool;
mod shared;

pub(crate) use self::pool::run as pool;
pub(crate) use self::shared::run as shared_bytes;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::fuzz::{corpus, seeds};

    #[test]
    fn pool_equals_its_model_on_random_operations() {
        seeds(pool);
    }

    #[test]
    fn shared_stacks_equal_their_model_on_random_operations() {
        seeds(shared_bytes);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn pool_equals_its_model_on_the_corpus() {
        corpus("pool", pool);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn shared_stacks_equal_their_model_on_the_corpus() {
        corpus("shared_bytes", shared_bytes);
    }
}
