//! Poisoned stacks: an access to one is reported with the names of the code that
//! made it and of the stack's owner.
//!
//! The check mode of shared stacks gives each coroutine a stack of its own and
//! makes it inaccessible (`mprotect`) while the coroutine is parked. The contract
//! of shared stacks says that nothing else uses a pointer into its frames then;
//! code that does faults here, instead of finding another coroutine's bytes.
//!
//! ```text
//!  low                                                       high
//!   | guard | ... frames ... | Carrier | colour | OwnerRecord |
//!           '-------- inaccessible while parked -------------'
//! ```
//!
//! The record at the upper end names the owner. The fault may come from any
//! thread; its handler makes the record's page readable and needs nothing else.
//!
//! Protection keys would poison a stack in 33 ns instead of 5 µs, but only some
//! processors have them, and with 15 keys they miss one violation in 15.

use std::fmt::{self, Write};
use std::ptr::with_exposed_provenance_mut;

use super::report::{SignalWriter, describe_running};
use super::{StackBounds, guard};
use crate::sys::mem::{PAGE, open_for_reading};
use crate::sys::signal;

/// The owner of a stack, in words. A multiple of a cache line, since what is
/// below must be aligned like a stack.
#[repr(C)]
struct OwnerRecord {
    magic: u64,
    len: usize,
    text: [u8; TEXT],
}

/// Bytes of a record: the headroom of stacks that may be poisoned.
pub(crate) const RECORD: usize = 256;
const TEXT: usize = RECORD - 16;
const _: () = assert!(size_of::<OwnerRecord>() == RECORD);

/// Tells a record from whatever else may lie there.
const MAGIC: u64 = 0x6372_6f72_6520_6964;

/// Writes the owner's name; what is too long is cut off.
///
/// # Safety
///
/// - The stack is accessible, the caller's alone, and has a headroom of [`RECORD`] bytes.
pub(crate) unsafe fn set_owner(bounds: StackBounds, owner: fmt::Arguments<'_>) {
    let mut text = Text {
        bytes: [0; TEXT],
        len: 0,
    };
    // Fails only when it is full.
    let _ = text.write_fmt(owner);
    let record = OwnerRecord {
        magic: MAGIC,
        len: text.len,
        text: text.bytes,
    };
    // Headroom and colour together are less than a page.
    let top = bounds.base.get().next_multiple_of(PAGE);
    // SAFETY: the headroom is the caller's, at the upper end of its stack.
    unsafe { with_exposed_provenance_mut::<OwnerRecord>(top - RECORD).write(record) };
}

/// Reports a fault at `address` if that lies in a poisoned stack; says whether
/// it does. Async-signal-safe; the process is to be ended after a report.
pub(super) fn report(address: usize) -> bool {
    let Some(stack) = guard::find_stack(address) else {
        return false;
    };
    let record = stack.limit + stack.size - RECORD;
    // SAFETY: if there is a record, the process ends. If there is none, we have
    // not poisoned the stack, and what faults there is fatal too.
    if !unsafe { open_for_reading(record / PAGE * PAGE) } {
        return false;
    }
    // SAFETY: readable since the call above, aligned, and any bytes there are
    // an `OwnerRecord`.
    let record = unsafe { &*with_exposed_provenance_mut::<OwnerRecord>(record) };
    if record.magic != MAGIC {
        return false;
    }
    let owner = &record.text[..record.len.min(TEXT)];
    let mut out = SignalWriter::new();
    let _ = out.write_str("crore: the contract of shared stacks is broken: ");
    if !describe_running(&mut out, None) {
        let mut buffer = [0; 16];
        let _ = write!(out, "thread '{}'", signal::thread_name(&mut buffer));
    }
    let _ = writeln!(
        out,
        " touched address {address:#x}, in the frames of {}, which is parked; see the list under \
         \"Safety\" of crore::spawn_shared",
        std::str::from_utf8(owner).unwrap_or("a coroutine")
    );
    out.flush();
    true
}

/// Text of limited length.
struct Text {
    bytes: [u8; TEXT],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut fits = text.len().min(TEXT - self.len);
        while !text.is_char_boundary(fits) {
            fits -= 1;
        }
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}
