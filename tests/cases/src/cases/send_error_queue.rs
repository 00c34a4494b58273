//! A large blocking send while something lies in the socket's error queue (`MSG_ZEROCOPY`,
//! time stamps). It ended short, since `POLLERR` was taken for an error. Right: it is whole.

use std::io::Read;
use std::net::*;
use std::os::fd::AsRawFd;
fn attack() -> Vec<isize> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let out = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut into, _) = listener.accept().unwrap();
    let one = 1i32;
    unsafe {
        libc::setsockopt(
            out.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ZEROCOPY,
            (&raw const one).cast(),
            4,
        )
    };
    let reader = std::thread::spawn(move || into.read_to_end(&mut Vec::new()).unwrap());
    let bytes = vec![3u8; 4 << 20];
    let sent = (0..5)
        .map(|i| unsafe {
            let flags = if i < 2 { libc::MSG_ZEROCOPY } else { 0 }; // later ones are plain, and short, too
            libc::send(out.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags)
        })
        .collect();
    drop(out);
    reader.join().unwrap();
    sent
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
