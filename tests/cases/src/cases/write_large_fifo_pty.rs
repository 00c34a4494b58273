//! A large write to a FIFO, a terminal, or a pipe before Linux 6.4 (shown by a filter). The
//! worker blocked, for ever if the reader was its coroutine. Right: all is written.
//! Argument: `fifo`, `pty`, `oldpipe` or `oldsocket`.

use std::{ffi::CString, fs::File, io::*, os::fd::*, time::Duration};
fn old_kernel() {
    unsafe {
        // pwritev2 says EOPNOTSUPP, as it does for pipes from 4.6 to 6.3
        let f = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let prog = [
            f(0x20, 0, 0, 0),
            f(0x15, 0, 1, libc::SYS_pwritev2 as u32),
            f(6, 0, 0, 0x5_0000 | libc::EOPNOTSUPP as u32),
            f(6, 0, 0, 0x7fff_0000),
        ];
        let p = libc::sock_fprog {
            len: 4,
            filter: prog.as_ptr() as *mut _,
        };
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, 2, &p), 0);
    }
}
pub(crate) fn main() {
    let (mut r, mut w): (File, File) = match std::env::args().nth(1).as_deref() {
        Some("fifo") => {
            let p = format!("/tmp/fifo{}", std::process::id());
            let c = CString::new(p.clone()).unwrap();
            unsafe { libc::mkfifo(c.as_ptr(), 0o600) };
            let r = File::options().read(true).write(true).open(&p).unwrap();
            let w = File::options().write(true).open(&p).unwrap();
            std::fs::remove_file(&p).unwrap();
            (r, w)
        }
        Some("pty") => unsafe {
            let (mut m, mut s) = (0, 0);
            libc::openpty(
                &mut m,
                &mut s,
                std::ptr::null_mut(),
                std::ptr::null(),
                std::ptr::null(),
            );
            let mut t: libc::termios = std::mem::zeroed();
            libc::tcgetattr(s, &mut t);
            libc::cfmakeraw(&mut t);
            libc::tcsetattr(s, libc::TCSANOW, &t);
            (File::from_raw_fd(m), File::from_raw_fd(s))
        },
        Some("oldsocket") => {
            old_kernel();
            let (r, w) = std::os::unix::net::UnixStream::pair().unwrap();
            (File::from(OwnedFd::from(r)), File::from(OwnedFd::from(w)))
        }
        _ => {
            old_kernel();
            let (r, w) = std::io::pipe().unwrap();
            (File::from(OwnedFd::from(r)), File::from(OwnedFd::from(w)))
        }
    };
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(3));
        eprintln!("FAULT: hangs: the worker is in write(2)");
        unsafe { libc::_exit(3) }
    });
    crore::run(move || {
        let writer = crore::spawn(move || w.write_all(&[7; 1 << 20]).unwrap());
        let (mut got, mut buf) = (0, vec![0; 65536]);
        while got < 1 << 20 {
            got += r.read(&mut buf).unwrap();
        }
        writer.join().unwrap();
        println!("fine: all {got} bytes");
    })
    .unwrap();
}
