//! A write to a file of a machine's disk, and how it is undone.
//!
//! One that the disk has refused when it was synced is *lost*: it is in the kernel's memory
//! only, where everybody reads it, and no later sync writes it, as on Linux, for which its
//! pages are clean from there on. It is written after all where its page is changed again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::chance::Chance;

/// What a disk writes at once.
const SECTOR: usize = 512;

/// What the kernel writes at once.
const PAGE: u64 = 4096;

/// A file, whatever its name: its device and number.
pub(super) type DiskFileId = (u64, u64);

#[derive(Clone)]
pub(super) struct DiskWrite {
    pub(super) id: DiskFileId,
    pub(super) file: Arc<File>,
    pub(super) at: u64,
    /// How much was written; of a cut all that follows.
    pub(super) len: u64,
    /// What was there, up to the end of the file.
    pub(super) before: Vec<u8>,
    /// How long the file was.
    pub(super) size: u64,
    /// By a write, and not by a cut, which is whole.
    pub(super) can_tear: bool,
    pub(super) is_lost: bool,
}

impl DiskWrite {
    /// Those that came later are undone, but for what was lost.
    pub(super) fn undo(&self, is_torn: bool, chance: &mut Chance) -> io::Result<()> {
        let is_torn = is_torn && self.can_tear;
        for (number, sector) in self.before.chunks(SECTOR).enumerate() {
            if !is_torn || chance.happens(0.5) {
                let at = self.at + (number * SECTOR) as u64;
                self.file.write_all_at(sector, at)?;
            }
        }
        let grown = self.file.metadata()?.len().saturating_sub(self.size);
        let stays = if is_torn { chance.below(grown + 1) } else { 0 };
        self.file.set_len(self.size + stays)
    }

    /// Later ones may be there.
    pub(super) fn undo_lost(&self) -> io::Result<()> {
        let (end, now) = (self.at + self.len, self.file.metadata()?.len());
        let there = now.saturating_sub(self.at).min(self.before.len() as u64);
        self.file
            .write_all_at(&self.before[..there as usize], self.at)?;
        let new = self.at.max(self.size);
        if now > end && new < end {
            self.file.write_all_at(&vec![0; (end - new) as usize], new)
        } else if now <= end && now > self.size {
            self.file.set_len(self.size)
        } else {
            Ok(())
        }
    }

    /// The pages from one byte to another are written again: what of it was lost there is
    /// to be written once more.
    pub(super) fn touched(self, from: u64, to: u64) -> Vec<Self> {
        let (from, to) = (from / PAGE * PAGE, to.div_ceil(PAGE) * PAGE);
        let end = self.at + self.len;
        if !self.is_lost || from >= end || to <= self.at {
            return vec![self];
        }
        let (from, to) = (from.max(self.at), to.min(end));
        let parts = [(self.at, from, true), (from, to, false), (to, end, true)];
        let some = parts.into_iter().filter(|(from, to, _)| from < to);
        some.map(|(from, to, is_lost)| self.part(from, to, is_lost))
            .collect()
    }

    fn part(&self, from: u64, to: u64, is_lost: bool) -> Self {
        let within = |place: u64| ((place - self.at) as usize).min(self.before.len());
        Self {
            at: from,
            len: to - from,
            before: self.before[within(from)..within(to)].to_vec(),
            // As if the parts had been written one after the other.
            size: if from == self.at {
                self.size
            } else {
                self.size.max(from)
            },
            is_lost,
            file: Arc::clone(&self.file),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(test: &str) -> Arc<File> {
        let path = std::env::temp_dir().join(format!("crore-{test}-{}", std::process::id()));
        let mut options = File::options();
        let options = options.create(true).truncate(true).read(true).write(true);
        let file = options.open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        Arc::new(file)
    }

    /// Writes, and says how that is undone.
    fn write(file: &Arc<File>, at: u64, bytes: &[u8]) -> DiskWrite {
        let size = file.metadata().unwrap().len();
        let mut before = vec![0; size.saturating_sub(at).min(bytes.len() as u64) as usize];
        file.read_exact_at(&mut before, at).unwrap();
        file.write_all_at(bytes, at).unwrap();
        DiskWrite {
            id: (0, 0),
            file: Arc::clone(file),
            at,
            len: bytes.len() as u64,
            before,
            size,
            can_tear: true,
            is_lost: true,
        }
    }

    fn text(file: &Arc<File>) -> Vec<u8> {
        let mut text = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut text, 0).unwrap();
        text
    }

    #[test]
    fn what_is_lost_leaves_what_came_later() {
        let file = file("lost");
        write(&file, 0, b"old ");
        let lost = write(&file, 2, b"LOST");
        write(&file, 6, b" new");
        assert_eq!(text(&file), b"olLOST new");
        lost.undo_lost().unwrap();
        assert_eq!(text(&file), b"old \0\0 new");
        let lost = write(&file, 8, b"LOST");
        lost.undo_lost().unwrap();
        assert_eq!(text(&file), b"old \0\0 new");
        let lost = write(&file, 0, b"LOST");
        file.set_len(2).unwrap();
        lost.undo_lost().unwrap();
        assert_eq!(text(&file), b"ol");
    }

    #[test]
    fn pages_that_are_written_again_are_lost_no_more() {
        let file = file("touched");
        write(&file, 0, &[b'a'; 5000]);
        let bytes: Vec<u8> = (0..14_000).map(|at| (at % 251) as u8).collect();
        let lost = write(&file, 100, &bytes);
        let whole = text(&file);
        let parts = lost.clone().touched(5000, 5001);
        let seen: Vec<_> = parts.iter().map(|it| (it.at, it.len, it.is_lost)).collect();
        let expected = [(100, 3996, true), (4096, 4096, false), (8192, 5908, true)];
        assert_eq!(seen, expected);
        // Those that are left are undone, the last first.
        parts[2].undo_lost().unwrap();
        parts[0].undo_lost().unwrap();
        let now = text(&file);
        assert_eq!(now.len(), 8192);
        assert!(now[..4096].iter().all(|byte| *byte == b'a'));
        assert_eq!(now[4096..], whole[4096..8192]);
        parts[1].undo(false, &mut Chance::new(1)).unwrap();
        assert_eq!(text(&file), [b'a'; 5000]);
        assert_eq!(lost.clone().touched(1 << 20, 1 << 21).len(), 1);
        assert_eq!(lost.touched(0, 1 << 20).len(), 1);
    }
}
