//! The promise: coroutines and the executors, locks and channels of others wait
//! for each other.

#[path = "../../../common/mod.rs"]
mod common;
#[path = "../../../hook_common/mod.rs"]
mod hook_common;

mod foreign_loop;
mod futures_and_smol;
mod joins;
mod own_locals;
mod wakers;
mod with_tokio;
