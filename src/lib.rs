//! crore: millions of connections on one kernel thread, with plain blocking code.

mod stack;
mod sys;

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod __fuzz {
    //! Entry points of the fuzz targets, absent from every other build.

    /// Operations on the saved-frame pool.
    pub fn pool(input: &[u8]) {
        crate::stack::fuzz_ops::pool(input);
    }

    /// Operations on the bytes of shared stacks.
    pub fn shared_bytes(input: &[u8]) {
        crate::stack::fuzz_ops::shared_bytes(input);
    }
}
