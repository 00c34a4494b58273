//! A coroutine whose hooked calls never wait, beside timers of others. They were late by
//! 64 slices of 128 calls. Right: by a slice, in processor time, so that load does not matter.

use std::{cell::Cell, io::*, net::*, rc::Rc, time::Duration};
fn cpu() -> Duration {
    let mut t: libc::timespec = unsafe { std::mem::zeroed() };
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}
fn measure(name: &str, mut call: impl FnMut() + 'static) {
    let (naps, each) = crore::run(move || {
        let done = Rc::new(Cell::new(false));
        let theirs = done.clone();
        let h = crore::spawn_local(move || {
            let mut v: Vec<_> = (0..15)
                .map(|_| {
                    let c = cpu();
                    std::thread::sleep(Duration::from_millis(1));
                    cpu() - c
                })
                .collect();
            theirs.set(true);
            v.sort();
            v
        });
        let (t, mut n) = (cpu(), 0u32);
        while !done.get() {
            call();
            n += 1;
        }
        (h.join().unwrap(), (cpu() - t) / n)
    })
    .unwrap();
    println!(
        "{name}: {each:?} a call; a nap of 1 ms takes {:?} (median of 15), {:?} at worst",
        naps[7], naps[14]
    );
}
pub(crate) fn main() {
    let u = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = u.local_addr().unwrap();
    measure("datagrams of 32 KiB, sent in a row", move || {
        u.send_to(&[0; 32 << 10], to).unwrap();
    });
    let (mut x, mut y) = std::os::unix::net::UnixStream::pair().unwrap();
    measure("32 KiB into a stream and out again", move || {
        x.write_all(&[0; 32 << 10]).unwrap();
        y.read_exact(&mut [0; 32 << 10]).unwrap();
    });
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = l.local_addr().unwrap();
    drop(l);
    measure(
        "connects that are refused (waiting for a server)",
        move || drop(TcpStream::connect(to)),
    );
    measure("yield_now", crore::yield_now);
}
