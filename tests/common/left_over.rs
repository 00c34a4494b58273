//! At the end of a test process the library's tables are empty, but for what tests have
//! said that they leave: or else the process fails, and says what is left.
//!
//! Libtest has joined its threads when the process exits. Children look at nothing: those
//! that are forked have another number, those that are executed find the mark.

#![allow(dead_code, reason = "not all test binaries leave something")]

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// In the environment of all that a test process starts.
const MARK: &CStr = c"CRORE_TEST_PROCESS";

/// What machines had that have crashed in simulations stays (I6).
const CRASHED: [&str; 3] = ["blocks of thread-locals", "ranges of stacks", "threads"];

static PROCESS: AtomicI32 = AtomicI32::new(0);
static MEANT: Mutex<BTreeMap<&str, usize>> = Mutex::new(BTreeMap::new());

/// The calling test leaves so many entries in this table, and says why beside the call.
pub(crate) fn meant_to_leave(table: &'static str, count: usize) {
    *MEANT.lock().unwrap().entry(table).or_default() += count;
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    // SAFETY: texts that end with NUL; there is one thread.
    unsafe {
        if libc::getenv(MARK.as_ptr()).is_null() {
            libc::setenv(MARK.as_ptr(), c"1".as_ptr(), 1);
            PROCESS.store(libc::getpid(), Ordering::Relaxed);
            assert_eq!(libc::atexit(look), 0);
        }
    }
}

extern "C" fn look() {
    // SAFETY: no preconditions.
    if unsafe { libc::getpid() } != PROCESS.load(Ordering::Relaxed) {
        return;
    }
    // A thread that nobody joins may be about to take its entry off: on a busy machine later.
    let mut tries = 0;
    while let Err(differs) = compare() {
        tries += 1;
        if tries == 1000 {
            eprintln!("left over in the tables of the process: {differs}");
            // SAFETY: no preconditions; as libtest when a test has failed.
            unsafe { libc::_exit(101) };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether what is left is what tests have meant to leave.
fn compare() -> Result<(), String> {
    let is_told = |table: &str| !cfg!(feature = "sim") || !CRASHED.contains(&table);
    let mut left = BTreeMap::from_iter(crore::__tables::left_over());
    left.retain(|table, _| is_told(table));
    let mut meant = MEANT.lock().unwrap();
    meant.retain(|table, _| is_told(table));
    match left == *meant {
        true => Ok(()),
        false => Err(format!("{left:?}; tests meant to: {meant:?}")),
    }
}
