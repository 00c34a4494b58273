//! `shutdown` of a socket of messages in which a coroutine waits. It waited for ever, since a
//! `recv` that does not wait says `EAGAIN` there. Right: it ends, as a thread's does.

use std::{net::UdpSocket, os::fd::*, os::unix::net::UnixDatagram, time::*};
fn wait(fd: RawFd) -> (isize, u128) {
    let t = Instant::now();
    let r = unsafe { libc::recv(fd, [0u8; 8].as_mut_ptr().cast(), 8, 0) };
    (r, t.elapsed().as_millis())
}
pub(crate) fn main() {
    for unix in [false, true] {
        let make = || -> OwnedFd {
            if unix {
                let (a, b) = UnixDatagram::pair().unwrap();
                std::mem::forget(b);
                a.into()
            } else {
                UdpSocket::bind("127.0.0.1:0").unwrap().into()
            }
        };
        let s = make();
        let fd = s.as_raw_fd();
        let t = std::thread::spawn(move || wait(fd));
        std::thread::sleep(Duration::from_millis(50));
        unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        println!("unix {unix}: a thread's recv: {:?}", t.join().unwrap());
        crore::run(|| {
            let s = make();
            let fd = s.as_raw_fd();
            let c = crore::spawn(move || crore::timeout(Duration::from_secs(2), || wait(fd)));
            std::thread::sleep(Duration::from_millis(50));
            unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
            println!(
                "unix {unix}: a coroutine's recv: {:?} (want Ok((0, 50)))",
                c.join().unwrap()
            );
            drop(s);
        })
        .unwrap();
    }
}
