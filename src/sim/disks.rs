//! The machines' disks: at a crash what was written and not synced is undone, all of it,
//! some, or to the middle of a write, as a disk does whose power fails.
//!
//! A journal of each machine has what its calls changed in the files below its
//! directory, and how that is undone. A sync of a file takes the writes to it out, and
//! its making; a sync of a directory takes out what was made, renamed and removed there.
//! A sync that fails loses the writes (`disk_write.rs`).
//! Not noticed: writes to maps, `sendfile` and its like, links and directories.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, c_int, c_long};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf, absolute};
use std::ptr::with_exposed_provenance;
use std::sync::Arc;

use super::chance::Chance;
use super::disk_write::{DiskFileId, DiskWrite};
use super::machines::NodeId;
use crate::sys::fcntl::status_flags;
use crate::sys::stat::identity;
use crate::sys::syscall::{Answer, sys};

pub(super) struct Disks {
    /// Where each machine's begins.
    roots: Vec<PathBuf>,
    chance: Chance,
    /// By machine, the oldest change first.
    journals: Vec<Vec<DiskChange>>,
    /// Files with writes in a journal.
    files: HashMap<DiskFileId, Arc<File>>,
    /// What the call that is being made changes, if it succeeds.
    pending: Option<DiskChange>,
    /// For the names of files that were replaced or removed.
    kept: u64,
}

/// What was changed.
enum DiskChange {
    Written(DiskWrite),
    Made {
        path: PathBuf,
        id: DiskFileId,
    },
    /// With the file that was replaced, under another name.
    Renamed {
        from: PathBuf,
        to: PathBuf,
        replaced: Option<PathBuf>,
    },
    Removed {
        path: PathBuf,
        kept: PathBuf,
    },
}

impl Disks {
    /// Below `root`, each machine's in a directory of its name.
    pub(super) fn new(root: &Path, names: &[String], chance: Chance) -> Self {
        let root = absolute(root).expect("the path of the disks");
        let root = fs::canonicalize(&root).unwrap_or(root);
        Self {
            roots: names.iter().map(|name| root.join(name)).collect(),
            chance,
            journals: names.iter().map(|_| Vec::new()).collect(),
            files: HashMap::new(),
            pending: None,
            kept: 0,
        }
    }

    /// A call is about to be made.
    ///
    /// # Safety
    ///
    /// - As for the system call.
    pub(super) unsafe fn before(&mut self, node: NodeId, number: c_long, args: [usize; 6]) {
        let [a, b, c, d, ..] = args;
        // SAFETY: the caller's paths and buffers.
        let change = unsafe {
            match number {
                libc::SYS_openat => self.opens(node, a as c_int, b, c as c_int),
                libc::SYS_renameat | libc::SYS_renameat2 => {
                    let (from, to) = (self.path(node, a, b), self.path(node, c, d));
                    self.renames(from, to)
                }
                libc::SYS_unlinkat => self.path(node, a, b).and_then(|path| self.removes(path)),
                libc::SYS_ftruncate => self.writes(node, a as RawFd, b as u64, u64::MAX),
                libc::SYS_truncate => {
                    let path = self.path(node, libc::AT_FDCWD as usize, a);
                    path.and_then(|path| self.written(open(&path).ok()?, b as u64, u64::MAX))
                }
                _ => written(number, args).and_then(|(at, len)| {
                    let at = at.or_else(|| position(a as RawFd))?;
                    self.writes(node, a as RawFd, at, len)
                }),
            }
        };
        self.pending = change;
    }

    /// It was made.
    pub(super) fn after(&mut self, node: NodeId, number: c_long, fd: RawFd, answer: Answer) {
        let pending = self.pending.take();
        let Ok(value) = answer else { return };
        match (number, pending) {
            (libc::SYS_syncfs, _) => self.synced_all(node),
            (libc::SYS_fsync | libc::SYS_fdatasync, _) => self.synced(node, fd),
            (libc::SYS_openat, Some(DiskChange::Made { path, .. })) => {
                if let Ok(id) = identity(value as RawFd) {
                    self.journals[node].push(DiskChange::Made { path, id });
                }
            }
            (_, Some(DiskChange::Written(mut write))) => {
                if write.can_tear {
                    write.len = value as u64;
                    self.touches(node, &write);
                }
                self.journals[node].push(DiskChange::Written(write));
            }
            (_, Some(change)) => self.journals[node].push(change),
            _ => {}
        }
    }

    /// The machine has lost its power.
    pub(super) fn crash(&mut self, node: NodeId) {
        let changes = std::mem::take(&mut self.journals[node]);
        let reached = match self.chance.below(3) {
            // The disk was quick.
            0 => changes.len(),
            1 => 0,
            _ => self.chance.below(changes.len() as u64 + 1) as usize,
        };
        for (number, change) in changes.into_iter().enumerate().rev() {
            if number < reached && !change.is_lost() {
                change.drop_kept();
            } else {
                // What can't be undone has gone, with its directory.
                let _ = self.undo(change, number == reached);
            }
        }
        self.forget_files();
    }

    fn undo(&mut self, change: DiskChange, is_torn: bool) -> io::Result<()> {
        match change {
            DiskChange::Written(write) if write.is_lost => write.undo_lost(),
            DiskChange::Written(write) => write.undo(is_torn, &mut self.chance),
            DiskChange::Made { path, .. } => fs::remove_file(path),
            DiskChange::Renamed { from, to, replaced } => {
                fs::rename(&to, from)?;
                replaced.map_or(Ok(()), |kept| fs::rename(kept, to))
            }
            DiskChange::Removed { path, kept } => fs::rename(kept, path),
        }
    }

    /// A path of a machine's disk that a call names; none of others.
    ///
    /// # Safety
    ///
    /// - `path` is a C string, or null.
    unsafe fn path(&self, node: NodeId, dir: usize, path: usize) -> Option<PathBuf> {
        if path == 0 {
            return None;
        }
        // SAFETY: the caller's promise.
        let text = unsafe { CStr::from_ptr(with_exposed_provenance(path)) };
        let path = Path::new(OsStr::from_bytes(text.to_bytes()));
        let path = match dir as c_int {
            libc::AT_FDCWD => absolute(path).ok()?,
            dir => name_of(dir)?.join(path),
        };
        let path = fs::canonicalize(path.parent()?)
            .ok()?
            .join(path.file_name()?);
        path.starts_with(&self.roots[node]).then_some(path)
    }

    /// # Safety
    ///
    /// - As [`Disks::path`].
    unsafe fn opens(
        &mut self,
        node: NodeId,
        dir: c_int,
        path: usize,
        flags: c_int,
    ) -> Option<DiskChange> {
        if flags & (libc::O_CREAT | libc::O_TRUNC) == 0 {
            return None;
        }
        // SAFETY: the caller's promise.
        let path = unsafe { self.path(node, dir as usize, path) }?;
        match open(&path) {
            Ok(file) if flags & libc::O_TRUNC != 0 => self.written(file, 0, u64::MAX),
            Ok(_) => None,
            Err(_) if flags & libc::O_CREAT != 0 => Some(DiskChange::Made { path, id: (0, 0) }),
            Err(_) => None,
        }
    }

    fn renames(&mut self, from: Option<PathBuf>, to: Option<PathBuf>) -> Option<DiskChange> {
        let (from, to) = (from?, to?);
        let replaced = self.keep(&to);
        Some(DiskChange::Renamed { from, to, replaced })
    }

    fn removes(&mut self, path: PathBuf) -> Option<DiskChange> {
        let kept = self.keep(&path)?;
        Some(DiskChange::Removed { path, kept })
    }

    /// Another name for a file that is about to lose this one, beside the disks.
    fn keep(&mut self, path: &Path) -> Option<PathBuf> {
        self.kept += 1;
        let beside = self.roots.first()?.parent()?;
        let kept = beside.join(format!(".lost-{}", self.kept));
        fs::hard_link(path, &kept).ok().map(|()| kept)
    }

    /// The program writes so many bytes there; `u64::MAX`: all that follow may change.
    fn writes(&mut self, node: NodeId, fd: RawFd, at: u64, len: u64) -> Option<DiskChange> {
        if !name_of(fd)?.starts_with(&self.roots[node]) {
            return None;
        }
        // `O_SYNC` is that and more.
        if status_flags(fd).ok()? & libc::O_DSYNC != 0 {
            return None;
        }
        let file = open(Path::new(&format!("/proc/self/fd/{fd}"))).ok()?;
        self.written(file, at, len)
    }

    fn written(&mut self, file: File, at: u64, len: u64) -> Option<DiskChange> {
        let found = file.metadata().ok().filter(fs::Metadata::is_file)?;
        let (id, size) = (identity(file.as_raw_fd()).ok()?, found.len());
        let can_tear = len != u64::MAX;
        let len = size.saturating_sub(at).min(len) as usize;
        let mut before = vec![0; len];
        file.read_exact_at(&mut before, at).ok()?;
        let file = self.files.entry(id).or_insert_with(|| Arc::new(file));
        Some(DiskChange::Written(DiskWrite {
            id,
            file: Arc::clone(file),
            at,
            len: u64::MAX,
            before,
            size,
            can_tear,
            is_lost: false,
        }))
    }

    /// What was lost in these pages is to be written with them.
    fn touches(&mut self, node: NodeId, write: &DiskWrite) {
        let journal = &mut self.journals[node];
        if !journal.iter().any(DiskChange::is_lost) {
            return;
        }
        let changes = std::mem::take(journal).into_iter();
        journal.extend(changes.flat_map(|change| match change {
            DiskChange::Written(lost) if lost.id == write.id => {
                let parts = lost.touched(write.at, write.at + write.len);
                parts.into_iter().map(DiskChange::Written).collect()
            }
            change => vec![change],
        }));
    }

    /// A sync fails, of a file, or of all that the machine has: the writes are lost.
    pub(super) fn fails_to_sync(&mut self, node: NodeId, fd: Option<RawFd>) {
        let id = fd.and_then(|fd| identity(fd).ok());
        for change in &mut self.journals[node] {
            if let DiskChange::Written(write) = change {
                let is_meant = id.is_none_or(|id| id == write.id);
                write.is_lost |= is_meant && write.can_tear;
            }
        }
    }

    /// The name of a file or directory of a machine's disk that it has open.
    pub(super) fn name_of(&self, node: NodeId, fd: RawFd) -> Option<PathBuf> {
        name_of(fd).filter(|name| name.starts_with(&self.roots[node]))
    }

    /// How many bytes the machine's files have.
    pub(super) fn used(&self, node: NodeId) -> u64 {
        used(&self.roots[node])
    }

    fn synced(&mut self, node: NodeId, fd: RawFd) {
        let (Ok(id), Some(name)) = (identity(fd), name_of(fd)) else {
            return;
        };
        let is_in = |path: &Path| path.parent() == Some(&name);
        let (kept, synced): (Vec<_>, Vec<_>) = std::mem::take(&mut self.journals[node])
            .into_iter()
            .partition(|change| match change {
                DiskChange::Written(write) => write.id != id || write.is_lost,
                DiskChange::Made { path, id: of } => *of != id && !is_in(path),
                DiskChange::Renamed { to, .. } => !is_in(to),
                DiskChange::Removed { path, .. } => !is_in(path),
            });
        self.journals[node] = kept;
        self.are_done(synced);
    }

    fn synced_all(&mut self, node: NodeId) {
        let all = std::mem::take(&mut self.journals[node]).into_iter();
        let (lost, synced) = all.partition(DiskChange::is_lost);
        self.journals[node] = lost;
        self.are_done(synced);
    }

    /// These are never undone.
    fn are_done(&mut self, changes: Vec<DiskChange>) {
        changes.iter().for_each(DiskChange::drop_kept);
        drop(changes);
        self.forget_files();
    }

    /// Those that no journal needs.
    fn forget_files(&mut self) {
        self.files.retain(|_, file| Arc::strong_count(file) > 1);
    }
}

impl DiskChange {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Written(write) if write.is_lost)
    }

    /// The other name that a file had meanwhile is not needed any more.
    fn drop_kept(&self) {
        let kept = match self {
            Self::Renamed { replaced, .. } => replaced.as_ref(),
            Self::Removed { kept, .. } => Some(kept),
            _ => None,
        };
        // Nobody else knows it.
        let _ = kept.map(fs::remove_file);
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        self.journals
            .iter()
            .flatten()
            .for_each(DiskChange::drop_kept);
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

/// How many bytes the files below a directory have.
fn used(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => used(&entry.path()),
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    });
    sizes.sum()
}

/// The path of an open file.
fn name_of(fd: RawFd) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

/// Where a write goes that says so, or the next.
pub(super) fn place(number: c_long, args: [usize; 6]) -> Option<u64> {
    match number {
        libc::SYS_pwrite64 | libc::SYS_pwritev => Some(args[3] as u64),
        libc::SYS_pwritev2 if args[3] != usize::MAX => Some(args[3] as u64),
        _ => position(args[0] as RawFd),
    }
}

/// Where the next write goes.
fn position(fd: RawFd) -> Option<u64> {
    let appends = status_flags(fd).ok()? & libc::O_APPEND != 0;
    let whence = if appends {
        libc::SEEK_END
    } else {
        libc::SEEK_CUR
    };
    // SAFETY: no pointers.
    let here = unsafe { sys!(SYS_lseek, fd, 0, libc::SEEK_CUR) }.ok()?;
    // SAFETY: as above.
    let at = unsafe { sys!(SYS_lseek, fd, 0, whence) }.ok()?;
    // SAFETY: as above.
    let _ = unsafe { sys!(SYS_lseek, fd, here, libc::SEEK_SET) };
    Some(at as u64)
}

/// Where a call writes, if it says so, and how much at most.
///
/// # Safety
///
/// - As for the system call.
unsafe fn written(number: c_long, args: [usize; 6]) -> Option<(Option<u64>, u64)> {
    let [_, place, count, at, ..] = args;
    let parts = || {
        // SAFETY: the caller's parts.
        let parts = unsafe {
            std::slice::from_raw_parts(with_exposed_provenance::<libc::iovec>(place), count)
        };
        parts.iter().map(|part| part.iov_len as u64).sum::<u64>()
    };
    match number {
        libc::SYS_write => Some((None, count as u64)),
        libc::SYS_writev => Some((None, parts())),
        libc::SYS_pwrite64 => Some((Some(at as u64), count as u64)),
        libc::SYS_pwritev => Some((Some(at as u64), parts())),
        // -1 is the file's own position.
        libc::SYS_pwritev2 => Some(((at != usize::MAX).then_some(at as u64), parts())),
        _ => None,
    }
}
