//! The promise: what goes through a hook does in a coroutine what it does on a
//! thread, and parks where a thread would wait.
#![cfg(feature = "hook")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../hook_common/mod.rs"]
mod hook_common;

mod arguments;
mod batches_and_selects;
mod descriptors;
mod files;
mod names;
mod other_names;
mod plain_threads;
mod polls_and_sleeps;
mod processes;
mod small_frame;
mod sockets;
mod std_files;
mod std_net;
