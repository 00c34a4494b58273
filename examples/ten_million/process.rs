//! What the kernel says about this process and its memory.

use std::time::Duration;
use std::{fs, io};

const PAGE: u64 = 4096;

/// Bytes of memory that this process has resident.
pub(crate) fn resident() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|word| word.parse().ok());
    pages
        .map(|pages: u64| pages * PAGE)
        .ok_or_else(|| io::Error::other(format!("/proc/self/statm is {statm:?}")))
}

/// Bytes of memory that can be had without swapping.
pub(crate) fn available() -> io::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("/proc/meminfo has no MemAvailable"))
}

/// What this thread has had of a processor.
pub(crate) fn busy() -> io::Result<Duration> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = schedstat
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| io::Error::other(format!("/proc/thread-self/schedstat is {schedstat:?}")))
}
