//! Calls on files and on whatever a descriptor names: read and write, positioned I/O,
//! locks, `open`, `sendfile`.

#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod aio;
pub(crate) mod disk;
pub(crate) mod eventfd;
pub(crate) mod fcntl;
mod is_file;
pub(crate) mod locks;
pub(crate) mod open;
pub(crate) mod poll_first;
pub(crate) mod position_lock;
pub(crate) mod positioned;
pub(crate) mod read_write;
mod refused;
pub(crate) mod sendfile;
pub(crate) mod splice;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod terminal;
pub(crate) mod terminal_input;
mod through_buffer;
pub(crate) mod with_flags;
