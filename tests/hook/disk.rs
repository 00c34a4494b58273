//! The rows of the hooks' table about what waits for the disk.

use std::ffi::{CString, c_int};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use crate::hook_common::{in_coroutines, parks, said, same};

unsafe extern "C" {
    fn aio_suspend64(
        list: *const *const libc::aiocb,
        count: c_int,
        time: *const libc::timespec,
    ) -> c_int;
    fn lio_listio64(
        mode: c_int,
        list: *const *mut libc::aiocb,
        count: c_int,
        event: *mut libc::sigevent,
    ) -> c_int;
}

#[test]
fn sizes_and_syncs() {
    same(|on| {
        let mine = std::process::id();
        let path = std::env::temp_dir().join(format!("crore-disk-{mine}-{on:?}"));
        let options = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path);
        let file = options.unwrap();
        let fd = file.as_raw_fd();
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        let size = || file.metadata().unwrap().len() as usize;
        let mut out = Vec::new();
        let mut note = |result: i32| {
            out.push(said(result as isize));
            out.push(Ok(size()));
        };
        // SAFETY: strings and a mapping that live across the calls.
        unsafe {
            note(libc::ftruncate(fd, 5000));
            note(libc::ftruncate64(fd, 6000));
            note(libc::ftruncate(fd, -1));
            note(libc::ftruncate(-1, 5));
            note(libc::truncate(name.as_ptr(), 7000));
            note(libc::truncate64(name.as_ptr(), 8000));
            note(libc::truncate(c"/no/such/file".as_ptr(), 8000));
            note(libc::fallocate(fd, 0, 0, 10_000));
            note(libc::fallocate64(fd, libc::FALLOC_FL_KEEP_SIZE, 0, 20_000));
            note(libc::fallocate(fd, -1, 0, 1));
            // These return an error number.
            note(libc::posix_fallocate(fd, 0, 30_000));
            note(libc::posix_fallocate64(fd, 0, 40_000));
            note(libc::posix_fallocate(fd, -1, 1));
            note(libc::posix_fallocate(-1, 0, 1));
            note(libc::sync_file_range(
                fd,
                0,
                4096,
                libc::SYNC_FILE_RANGE_WRITE,
            ));
            note(libc::sync_file_range(fd, -1, 0, 0));
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            let map = libc::mmap(std::ptr::null_mut(), 4096, access, kind, fd, 0);
            map.cast::<u8>().write(7);
            note(libc::msync(map, 4096, libc::MS_SYNC));
            note(libc::msync(map, 4096, libc::MS_ASYNC));
            note(libc::msync(map.wrapping_byte_add(1), 4096, libc::MS_SYNC));
            libc::munmap(map, 4096);
            note(libc::msync(map, 4096, libc::MS_SYNC));
            libc::sync();
        }
        std::fs::remove_file(&path).unwrap();
        out
    });
}

/// A transfer that ends when the pipe has a byte, or has none in it for ever.
fn transfer(fd: i32, place: &mut u8, opcode: i32) -> Box<libc::aiocb> {
    // SAFETY: zeros are a valid one.
    let mut transfer: Box<libc::aiocb> = Box::new(unsafe { std::mem::zeroed() });
    transfer.aio_fildes = fd;
    transfer.aio_buf = (&raw mut *place).cast();
    transfer.aio_nbytes = 1;
    transfer.aio_lio_opcode = opcode;
    transfer
}

#[test]
fn transfers_that_libc_makes_later() {
    same(|on| {
        let (from, mut to) = std::io::pipe().unwrap();
        let mut places = [0_u8; 3];
        let [a, b, c] = &mut places;
        let mut all = [a, b, c].map(|place| transfer(from.as_raw_fd(), place, libc::LIO_READ));
        let soon = libc::timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        let none = std::ptr::null();
        let mut out = Vec::new();
        // SAFETY: transfers and places that live until they are done.
        unsafe {
            libc::aio_read(&mut *all[0]);
            let list = [std::ptr::null(), &raw const *all[0]];
            out.push(said(libc::aio_suspend(list.as_ptr(), 2, &soon) as isize));
            let mut writer = on.go(move || {
                to.write_all(b"x").unwrap();
                to
            });
            out.push(said(libc::aio_suspend(list.as_ptr(), 2, none) as isize));
            out.push(said(aio_suspend64(list.as_ptr(), 2, none) as isize));
            out.push(said(libc::aio_return(&mut *all[0])));
            for (way, kind) in [(0, libc::LIO_READ), (1, libc::LIO_READ), (1, 77)] {
                let mut to = writer.join();
                writer = on.go(move || {
                    to.write_all(b"yz").unwrap();
                    to
                });
                all[1].aio_lio_opcode = libc::LIO_READ;
                all[2].aio_lio_opcode = kind;
                let list = [1, 2].map(|at| &raw mut *all[at]);
                let call = if way == 0 {
                    libc::lio_listio
                } else {
                    lio_listio64
                };
                out.push(said(
                    call(libc::LIO_WAIT, list.as_ptr(), 2, std::ptr::null_mut()) as isize,
                ));
                out.push(said(libc::aio_return(&mut *all[1])));
            }
            writer.join();
        }
        (out, places)
    });
}

/// The worker goes on meanwhile: each call parks its coroutine.
#[test]
fn helpers_wait_for_the_disk() {
    in_coroutines(|_| {
        let path = std::env::temp_dir().join(format!("crore-helped-{}", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        let fd = file.as_raw_fd();
        let calls: [fn(c_int) -> c_int; 5] = [
            // SAFETY: no pointers.
            |fd| unsafe { libc::ftruncate(fd, 5000) },
            // SAFETY: the same.
            |fd| unsafe { libc::fallocate(fd, 0, 0, 9000) },
            // SAFETY: the same.
            |fd| unsafe { libc::posix_fallocate(fd, 0, 9000) },
            // SAFETY: the same.
            |fd| unsafe { libc::sync_file_range(fd, 0, 0, libc::SYNC_FILE_RANGE_WRITE) },
            // SAFETY: the same.
            |fd| unsafe { libc::fsync(fd) },
        ];
        for (at, call) in calls.into_iter().enumerate() {
            let parked = parks(|| {
                call(fd);
            });
            assert!(parked, "call {at}");
        }
        std::fs::remove_file(&path).unwrap();
    });
}
