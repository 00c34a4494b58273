//! What the kernel says about memory, limits and processor time, from `/proc`.

use std::str::FromStr;
use std::time::Duration;
use std::{fs, io};

/// Bytes that the kernel counts socket memory in.
const PAGE: u64 = 4096;

/// Memory of the whole machine, in bytes, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// What can be had without swapping.
    pub(crate) available: u64,
    /// The kernel's own objects: sockets, descriptors, epoll entries.
    pub(crate) slab: u64,
    /// What lies in the buffers of TCP sockets.
    pub(crate) tcp_buffers: u64,
}

impl Memory {
    pub(crate) fn now() -> io::Result<Self> {
        let meminfo = read("/proc/meminfo")?;
        Ok(Self {
            available: kib(&meminfo, "MemAvailable:").ok_or_else(|| odd("/proc/meminfo"))?,
            slab: kib(&meminfo, "Slab:").ok_or_else(|| odd("/proc/meminfo"))?,
            tcp_buffers: tcp_pages()? * PAGE,
        })
    }

    /// What the kernel itself holds more than at `before`.
    pub(crate) fn kernel_since(&self, before: &Self) -> u64 {
        let all = |memory: &Self| memory.slab + memory.tcp_buffers;
        all(self).saturating_sub(all(before))
    }
}

/// Pages in the buffers of TCP sockets.
pub(crate) fn tcp_pages() -> io::Result<u64> {
    let file = "/proc/net/sockstat";
    after_word(&read(file)?, "TCP:", "mem").ok_or_else(|| odd(file))
}

/// Bytes of memory that a process has resident.
pub(crate) fn resident(pid: u32) -> io::Result<u64> {
    let file = format!("/proc/{pid}/status");
    kib(&read(&file)?, "VmRSS:").ok_or_else(|| odd(&file))
}

/// `ESRCH`, which files of an ended thread say.
const NO_SUCH_PROCESS: i32 = 3;

/// Processor time that a process has used, all its present threads, to the
/// nanosecond.
pub(crate) fn processor_time(pid: u32) -> io::Result<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let file = thread?.path().join("schedstat");
        let text = match fs::read_to_string(&file) {
            // It has ended since it was listed.
            Err(e)
                if e.kind() == io::ErrorKind::NotFound
                    || e.raw_os_error() == Some(NO_SUCH_PROCESS) =>
            {
                continue;
            }
            text => text?,
        };
        sum += words::<u64>(&text)
            .next()
            .ok_or_else(|| odd(&file.to_string_lossy()))?;
    }
    Ok(Duration::from_nanos(sum))
}

/// The numbers of a file below `/proc/sys`; `None` if there is no such file.
pub(crate) fn setting(name: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(words(&text).collect())
}

fn read(file: &str) -> io::Result<String> {
    fs::read_to_string(file).map_err(|e| io::Error::new(e.kind(), format!("{file}: {e}")))
}

#[cold]
fn odd(file: &str) -> io::Error {
    io::Error::other(format!("{file} does not say what was expected of it"))
}

fn words<T: FromStr>(text: &str) -> impl Iterator<Item = T> {
    text.split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
}

/// The number of a line `key: n kB`, in bytes.
fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    words::<u64>(line).next().map(|kib| kib * 1024)
}

/// The number behind `word` in the line that begins with `key`.
fn after_word(text: &str, key: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let mut all = line.split_ascii_whitespace();
    all.find(|&found| found == word)?;
    all.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_understood() {
        let meminfo = "MemFree: 5 kB\nMemAvailable:   7 kB\nSlab: 9 kB\n";
        assert_eq!(kib(meminfo, "MemAvailable:"), Some(7 * 1024));
        assert_eq!(kib(meminfo, "Slabs:"), None);
        let sockstat = "sockets: used 23\nTCP: inuse 1 orphan 0 tw 1 alloc 1 mem 42\n";
        assert_eq!(after_word(sockstat, "TCP:", "mem"), Some(42));
        assert_eq!(after_word(sockstat, "UDP:", "mem"), None);
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let me = std::process::id();
        assert!(resident(me).unwrap() > 100 << 10);
        assert!(processor_time(me).unwrap() > Duration::ZERO);
        assert!(resident(0).unwrap_err().to_string().contains("/proc/0"));
        assert!(Memory::now().unwrap().available > 0);
        assert!(setting("fs/nr_open").unwrap()[0] > 0);
        assert_eq!(setting("fs/no_such_thing"), None);
    }
}
