//! The promise: what goes through a hook does in a coroutine what it does on a
//! thread, and parks where a thread would wait.
#![cfg(feature = "hook")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../hook_common/mod.rs"]
mod hook_common;

mod arguments;
mod batches_and_selects;
mod commands;
mod databases;
mod descriptors;
mod direct_io;
mod disk;
mod exceptions;
mod file_locks;
mod files;
mod formats;
mod interposers;
mod lingering;
mod many_waiters;
mod mirrored;
mod names;
mod numbers;
mod other_names;
mod partly_ready;
mod pipes;
mod plain_threads;
mod polls_and_sleeps;
mod processes;
mod queues;
mod readiness;
mod rooms;
mod second_stacks;
mod signals;
mod small_frame;
mod sockets;
mod std_files;
mod std_net;
mod stdio;
mod stdio_borders;
mod stdio_calls;
mod stdio_names;
mod terminals;
