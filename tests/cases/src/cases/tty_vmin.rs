//! Terminals without lines, by `VMIN` and `VTIME`. With `VMIN` 0 a read waited for ever, with
//! `VMIN` 4 and `VTIME` 10 it stopped the worker for a second. Right: what a thread reads.

use std::{fs::File, io::*, os::fd::*, time::*};
fn pty(vmin: u8, vtime: u8) -> (File, File) {
    unsafe {
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
        t.c_cc[libc::VMIN] = vmin;
        t.c_cc[libc::VTIME] = vtime;
        libc::tcsetattr(s, libc::TCSANOW, &t);
        (File::from_raw_fd(m), File::from_raw_fd(s))
    }
}
pub(crate) fn main() {
    for (vmin, vtime, there) in [(0, 0, ""), (0, 5, ""), (4, 10, "a")] {
        let read = move || {
            let (mut m, mut s) = pty(vmin, vtime);
            m.write_all(there.as_bytes()).unwrap();
            let t = Instant::now();
            format!("{:?} after {:?}", s.read(&mut [0; 8]), t.elapsed())
        };
        println!(
            "VMIN {vmin} VTIME {vtime}: thread: {}",
            std::thread::spawn(read).join().unwrap()
        );
        crore::run(|| {
            let beat = crore::spawn(|| {
                let mut worst = Duration::ZERO;
                for _ in 0..100 {
                    let t = Instant::now();
                    std::thread::sleep(Duration::from_millis(5));
                    worst = worst.max(t.elapsed());
                }
                worst
            });
            let r = crore::spawn(move || crore::timeout(Duration::from_secs(3), read))
                .join()
                .unwrap();
            println!(
                "VMIN {vmin} VTIME {vtime}: coroutine: {r:?}; the others were stopped for {:?}",
                beat.join().unwrap()
            );
        })
        .unwrap();
    }
}
