//! The rare state of a task: what few tasks have, and a slot has no room for.

use std::sync::Arc;
use std::time::Instant;

use super::locals::Locals;
use crate::task::Addr;

/// What few tasks have.
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub(super) name: Option<Arc<str>>,
    /// What the task is known by if it is not its address.
    pub(super) provisional_id: Option<Addr>,
    /// Waits refused since the task was cancelled.
    pub(super) refusals: u32,
    /// The `timeout` that the task is inside, the one that ends first.
    pub(super) timeout: ActiveTimeout,
    /// Its coroutine locals.
    pub(super) locals: Locals,
}

/// The `timeout` around what a task runs, or none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ActiveTimeout {
    pub(crate) deadline: Option<Instant>,
    /// Waits that it has made fail.
    pub(crate) refusals: u32,
}
