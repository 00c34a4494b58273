//! mimalloc as the program's allocator: each coroutine with thread-locals of its own
//! is a thread to it.

use crore_clients::allocator::{comes_and_goes, goes_around};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[test]
fn memory_goes_around() {
    goes_around();
}

#[test]
fn caches_come_and_go() {
    comes_and_goes();
}
