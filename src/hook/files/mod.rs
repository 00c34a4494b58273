//! Calls on files and on whatever a descriptor names: read and write, positioned I/O,
//! locks, `open`, `sendfile`.

pub(crate) mod fcntl;
pub(crate) mod locks;
pub(crate) mod open;
pub(crate) mod position_lock;
pub(crate) mod positioned;
pub(crate) mod read_write;
pub(crate) mod sendfile;
