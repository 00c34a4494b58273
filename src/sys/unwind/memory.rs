//! Memory that may not be there, read without a fault.

use crate::sys::syscall::{sys, to_io};

/// Bytes that are asked for at a time: a power of two, so that each lies in one page.
const LINE: usize = 512;

/// Keeps what it read last.
pub(super) struct MemoryReader {
    line: [u8; LINE],
    at: Option<usize>,
    process: libc::pid_t,
}

impl MemoryReader {
    pub(super) fn new() -> Self {
        Self {
            line: [0; LINE],
            at: None,
            // SAFETY: no preconditions.
            process: unsafe { libc::getpid() },
        }
    }

    /// What was read may have changed.
    pub(super) fn forget(&mut self) {
        self.at = None;
    }

    /// The word at an address; nothing where there is no memory, or the kernel lets nobody
    /// read it this way.
    pub(super) fn word(&mut self, address: usize) -> Option<usize> {
        let mut bytes = [0; size_of::<usize>()];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = self.byte(address.checked_add(i)?)?;
        }
        Some(usize::from_ne_bytes(bytes))
    }

    fn byte(&mut self, address: usize) -> Option<u8> {
        let begin = address & !(LINE - 1);
        if self.at != Some(begin) {
            self.at = None;
            self.read(begin)?;
            self.at = Some(begin);
        }
        Some(self.line[address - begin])
    }

    fn read(&mut self, begin: usize) -> Option<()> {
        let [to, from] = [self.line.as_mut_ptr().addr(), begin].map(|base| libc::iovec {
            iov_base: std::ptr::without_provenance_mut(base),
            iov_len: LINE,
        });
        let _ = self.line.as_mut_ptr().expose_provenance();
        let (to, from) = (&raw const to, &raw const from);
        // SAFETY: the kernel writes the line, which is ours; what it reads it looks after.
        let read = unsafe { sys!(SYS_process_vm_readv, self.process, to, 1, from, 1, 0) };
        (to_io(read).ok()? as usize == LINE).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_no_fault() {
        let words: Vec<usize> = (0..1_000).collect();
        let mut memory = MemoryReader::new();
        for one in &words {
            assert_eq!(memory.word(std::ptr::from_ref(one).addr()), Some(*one));
        }
        let inside = words.as_ptr().addr() + 1;
        assert!(memory.word(inside).is_some());
        for nowhere in [0, 8, usize::MAX - 3, usize::MAX / 2, 0xdead_beef_dead_beef] {
            assert_eq!(memory.word(nowhere), None);
        }
    }
}
