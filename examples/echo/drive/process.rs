//! What a process uses, by the kernel's word in `/proc`.

use std::time::{Duration, Instant};
use std::{fs, io, thread};

/// Memory and processor time of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident memory. The kernel's own memory for sockets is not in it.
    pub(crate) rss_bytes: u64,
    /// Processor time since the start, user and system; in steps of 10 ms.
    pub(crate) cpu: Duration,
}

impl Usage {
    /// What process `pid` uses now.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let parsed = || Some((rss_bytes(&read("status").ok()?)?, cpu(&read("stat").ok()?)?));
        match parsed() {
            Some((rss_bytes, cpu)) => Ok(Self { rss_bytes, cpu }),
            None => Err(io::Error::other(format!(
                "cannot read what process {pid} uses from /proc/{pid}; is it alive?"
            ))),
        }
    }

    /// What process `pid` uses once its memory stays the same for 100 ms, or
    /// after two seconds.
    pub(crate) fn settled(pid: u32) -> io::Result<Self> {
        let give_up = Instant::now() + Duration::from_secs(2);
        let mut last = Self::of(pid)?;
        loop {
            thread::sleep(Duration::from_millis(100));
            let now = Self::of(pid)?;
            if now.rss_bytes == last.rss_bytes || Instant::now() > give_up {
                return Ok(now);
            }
            last = now;
        }
    }
}

/// `status`, not `statm`: it counts in kilobytes, whatever the page size.
fn rss_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(
        line.trim()
            .strip_suffix("kB")?
            .trim_end()
            .parse::<u64>()
            .ok()?
            * 1024,
    )
}

/// Fields 14 and 15 of `stat`, counted after the name, which may hold spaces.
fn cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    // USER_HZ, 100 on every architecture we build for.
    Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_understood() {
        assert_eq!(
            rss_bytes("Name:\tx\nVmRSS:\t    1234 kB\nVmSwap: 9 kB\n"),
            Some(1234 * 1024)
        );
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 25 13 14";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1750)));
        assert_eq!(cpu("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_uses_memory_and_nobody_is_process_0() {
        assert!(Usage::of(std::process::id()).unwrap().rss_bytes > 100 << 10);
        assert!(Usage::of(0).unwrap_err().to_string().contains("/proc/0"));
    }
}
