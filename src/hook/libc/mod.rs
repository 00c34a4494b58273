//! libc's own functions: the definitions behind crore's (`next`), and the checks of
//! `_FORTIFY_SOURCE` in front of them.

#[cfg(target_env = "gnu")]
pub(crate) mod fortify;
pub(crate) mod next;
