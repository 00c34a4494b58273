//! A read that must wait on a stack that `stacker` has grown. It failed with `EDEADLK`, and a
//! sleep blocked the thread. Right: it gets 7.

use std::io::{Read, Write};
pub(crate) fn main() {
    crore::run(|| {
        let (mut a, mut b) = std::os::unix::net::UnixStream::pair().unwrap();
        let r = crore::spawn(move || {
            stacker::grow(256 << 10, || {
                let mut x = [0];
                b.read_exact(&mut x).unwrap();
                x[0]
            })
        });
        let w = crore::spawn(move || a.write_all(&[7]).unwrap());
        println!("got {}", r.join().unwrap());
        w.join().unwrap();
    })
    .unwrap();
}
