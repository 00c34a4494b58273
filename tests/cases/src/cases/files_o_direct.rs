//! Reads with `O_DIRECT` in a coroutine, while pages are in the cache. They failed with
//! `EINVAL`, since the helper read into a buffer of its own that was not aligned as the
//! caller's. Right: what a thread gets.

use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
fn attack() -> Vec<Result<isize, i32>> {
    let path = "odirect-repro"; // on ext4 or xfs, not on tmpfs
    let cached = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    let direct = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .unwrap();
    let layout = std::alloc::Layout::from_size_align(1 << 20, 4096).unwrap();
    let buf = unsafe { std::alloc::alloc_zeroed(layout) };
    let says = |n: isize| {
        if n < 0 {
            Err(std::io::Error::last_os_error().raw_os_error().unwrap())
        } else {
            Ok(n)
        }
    };
    let dirty = || cached.write_all_at(&vec![7; 1 << 20], 0).unwrap();
    let fd = direct.as_raw_fd();
    unsafe {
        dirty();
        let a = says(libc::pread(fd, buf.cast(), 1 << 20, 0));
        dirty();
        let b = says(libc::pwrite(fd, buf.cast(), 1 << 20, 0));
        dirty();
        let c = says(libc::read(fd, buf.cast(), 1 << 20));
        vec![a, b, c]
    }
}
pub(crate) fn main() {
    println!(
        "thread:    {:?}",
        std::thread::spawn(attack).join().unwrap()
    );
    println!(
        "coroutine: {:?}",
        crore::run(|| crore::spawn(attack).join().unwrap()).unwrap()
    );
}
