//! 2 000 coroutines idle in `poll(POLLIN|POLLPRI)`. The worker ticked every 5 ms for each.
//! Right: idleness costs nothing.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn cpu() -> Duration {
    let mut t: libc::timespec = unsafe { std::mem::zeroed() };
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

fn idle(events: i16, n: usize) -> Duration {
    crore::run(|| {
        let mut pairs = Vec::new();
        for _ in 0..n {
            let (a, b) = UnixStream::pair().unwrap();
            let fd = b.as_raw_fd();
            crore::spawn(move || {
                let mut p = libc::pollfd {
                    fd,
                    events,
                    revents: 0,
                };
                assert_eq!(unsafe { libc::poll(&mut p, 1, -1) }, 1);
            });
            pairs.push((a, b));
        }
        std::thread::sleep(Duration::from_millis(300)); // all of them wait
        let before = cpu();
        std::thread::sleep(Duration::from_secs(3));
        let spent = cpu() - before;
        for (a, _) in &pairs {
            a.shutdown(std::net::Shutdown::Both).unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
        spent
    })
    .unwrap()
}

pub(crate) fn main() {
    println!(
        "POLLIN:           {:?} of processor time in 3 s",
        idle(libc::POLLIN, 2000)
    );
    println!(
        "POLLIN | POLLPRI: {:?} of processor time in 3 s",
        idle(libc::POLLIN | libc::POLLPRI, 2000)
    );
}
