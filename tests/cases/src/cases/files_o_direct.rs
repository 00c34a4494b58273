//! O_DIRECT I/O in a coroutine fails with EINVAL although the caller's buffer is aligned:
//! where RWF_NOWAIT says EAGAIN (pages in the cache) the helper uses a `vec![0; len]`,
//! which is aligned to 16 bytes only (src/hook/file.rs `helped`/`bounce`).
//! Cargo: crore (path), libc. Run on ext4. Thread: Ok(1048576) x3; coroutine: EINVAL x3.

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
