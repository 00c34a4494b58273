//! SIGTERM's handler closes the listening socket of an idle worker. The hook of `close` found
//! the driver borrowed and aborted. Right: what a thread's `accept` does: it goes on.

use std::{net::TcpListener, os::fd::AsRawFd, sync::atomic::*, time::Duration};
static FD: AtomicI32 = AtomicI32::new(-1);
extern "C" fn on(_: i32) {
    unsafe {
        libc::close(FD.load(Ordering::SeqCst));
    }
}
pub(crate) fn main() {
    unsafe {
        libc::signal(libc::SIGALRM, on as *const () as usize);
    }
    crore::run(|| {
        let listener = std::mem::ManuallyDrop::new(TcpListener::bind("127.0.0.1:0").unwrap());
        FD.store(listener.as_raw_fd(), Ordering::SeqCst);
        let acceptor = crore::spawn(move || listener.accept().map(drop).map_err(|e| e.to_string()));
        unsafe {
            libc::alarm(1);
        }
        crore::sleep(Duration::from_secs(2));
        println!(
            "OK, accept said {:?}",
            acceptor.is_finished().then(|| acceptor.join())
        );
    })
    .unwrap();
}
