//! `close` of a socket with `SO_LINGER` whose peer does not read. The worker stopped for the
//! linger's time, 2 s here. Right: the coroutine parks.

use std::{io::Write, net::*, time::*};
pub(crate) fn main() {
    crore::run(|| {
        let l = TcpListener::bind("127.0.0.1:0").unwrap();
        let c = TcpStream::connect(l.local_addr().unwrap()).unwrap();
        let (_peer, _) = l.accept().unwrap();
        socket2::SockRef::from(&c)
            .set_linger(Some(Duration::from_secs(2)))
            .unwrap();
        c.set_nonblocking(true).unwrap();
        while (&c).write(&[0; 65536]).is_ok() {}
        let beat = crore::spawn(|| {
            let mut worst = Duration::ZERO;
            for _ in 0..10 {
                let t = Instant::now();
                std::thread::sleep(Duration::from_millis(5));
                worst = worst.max(t.elapsed());
            }
            worst
        });
        std::thread::sleep(Duration::from_millis(12));
        drop(c);
        println!(
            "the others were stopped for {:?} (want some ms)",
            beat.join().unwrap()
        );
    })
    .unwrap();
}
