//! The list of destructors where it is not known: of other C libraries.

use std::ffi::c_void;

/// Some constant.
pub(super) fn first() -> usize {
    0
}

pub(super) fn register(_: extern "C" fn(*mut c_void)) {}

pub(super) fn is_known() -> bool {
    false
}
