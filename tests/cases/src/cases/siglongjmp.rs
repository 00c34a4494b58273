//! A handler that leaves a blocking call in a coroutine by `siglongjmp`. The process ended
//! with status 0 and a false message. Right: -2 is returned, or a clear refusal.

use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

unsafe extern "C" {
    fn timed_read(fd: c_int) -> c_int;
    fn nap();
}

pub(crate) fn main() {
    crore::run(|| {
        let (a, _b) = UnixStream::pair().unwrap();
        let fd = a.as_raw_fd();
        let other = crore::spawn(|| unsafe { nap() });
        let h = crore::spawn(move || unsafe { timed_read(fd) });
        println!("timed_read: {:?}", h.join());
        other.join().unwrap();
        println!("ends");
    })
    .unwrap();
}
