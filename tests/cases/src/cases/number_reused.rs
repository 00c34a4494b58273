//! A number that is closed inside of libc (`fclose`) and begins anew by a call that is not
//! hooked (`eventfd`, `SCM_RIGHTS`). What was known of the old file held for the new one: a
//! read of a non-blocking descriptor waited for ever. Right: what a thread gets.

use std::{io::*, net::*, os::fd::*, time::*};
pub(crate) fn main() {
    crore::run(|| {
        for value in [0, 7] {
            let l = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut a = TcpStream::connect(l.local_addr().unwrap()).unwrap();
            let (mut b, _) = l.accept().unwrap();
            let h = crore::spawn(move || {
                a.read(&mut [0; 64]).unwrap();
                a.into_raw_fd()
            });
            std::thread::sleep(Duration::from_millis(10));
            b.write_all(b"x").unwrap();
            let fd = h.join().unwrap(); // waited on, and read short: known to block, drained
            unsafe {
                loop {
                    let x = libc::syscall(libc::SYS_dup, 0) as RawFd;
                    if x > fd {
                        libc::syscall(libc::SYS_close, x);
                        break;
                    }
                } // no lower number is free
                libc::fclose(libc::fdopen(fd, c"r+".as_ptr()));
            }
            let e = unsafe { libc::eventfd(value, libc::EFD_NONBLOCK) };
            assert_eq!(e, fd, "try again");
            let t = Instant::now();
            let r = crore::spawn(move || {
                crore::timeout(Duration::from_secs(2), || {
                    let mut v = 0u64;
                    let n = unsafe { libc::read(e, (&raw mut v).cast(), 8) };
                    (n, v, Error::last_os_error().kind())
                })
            })
            .join()
            .unwrap();
            println!(
                "eventfd({value}, EFD_NONBLOCK): {r:?} after {:?} (want {} at once)",
                t.elapsed(),
                if value == 0 { "EAGAIN" } else { "7" }
            );
        }
    })
    .unwrap();
}
