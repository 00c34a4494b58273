//! What the kernel knows of the service's process.

use std::time::Duration;
use std::{fs, io};

/// A process, by its number.
#[derive(Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// Bytes that it has in memory.
    pub fn resident(self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: Option<u64> = kib.and_then(|kib| kib.parse().ok());
        kib.map(|kib| kib << 10)
            .ok_or_else(|| io::Error::other("no VmRSS"))
    }

    /// Processor time of all its threads.
    pub fn processor_time(self) -> io::Result<Duration> {
        let mut sum = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.0))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let first = text.split_whitespace().next();
            let nanos: Option<u64> = first.and_then(|word| word.parse().ok());
            sum += nanos.ok_or_else(|| io::Error::other("no schedstat"))?;
        }
        Ok(Duration::from_nanos(sum))
    }
}
