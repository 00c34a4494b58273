//! Memory and processors of this process.

/// Resident bytes and those of the page tables. What the kernel keeps for a
/// thread (16 KiB of stack and its task) is in neither.
pub fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let kilobytes = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.trim().strip_suffix("kB"));
        number
            .and_then(|number| number.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {key} in /proc/self/status"))
    };
    1024 * (kilobytes("VmRSS:") + kilobytes("VmPTE:"))
}

/// Keeps this thread, and those it starts, on one processor.
pub fn pin_to_one_processor() {
    // SAFETY: a set of processors is plain data; the calls get its size.
    unsafe {
        let mut now: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of_val(&now);
        assert_eq!(libc::sched_getaffinity(0, size, &raw mut now), 0);
        let first = (0..libc::CPU_SETSIZE as usize).find(|&cpu| libc::CPU_ISSET(cpu, &now));
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(first.expect("this thread runs on one"), &mut one);
        assert_eq!(libc::sched_setaffinity(0, size, &raw const one), 0);
    }
}
