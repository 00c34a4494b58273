//! The promise: what the kernel and the peer can do to a program is an error
//! where it happens, and nothing elsewhere.
// Much of it waits in std::net and std::thread::sleep.
#![cfg(feature = "hook")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crore::{CoroutineInfo, CoroutineState, JoinHandle, Runtime};

use crate::common::{set_limit, succeeds};

const LONG: Duration = Duration::from_secs(3600);

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// Takes all descriptors that are left but `spare`.
fn use_up_descriptors(spare: usize) -> Vec<OwnedFd> {
    set_limit(libc::RLIMIT_NOFILE, 128);
    let mut taken = Vec::new();
    // SAFETY: no pointers; each number is new and ours.
    while let fd @ 0.. = unsafe { libc::dup(0) } {
        // SAFETY: as above.
        taken.push(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    taken.truncate(taken.len() - spare);
    taken
}

#[test]
fn no_descriptors_left_is_an_error_and_no_connection_is_lost() {
    succeeds(
        "no_descriptors_left_is_an_error_and_no_connection_is_lost",
        || {
            crore::run(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                // Room for the client alone.
                let taken = use_up_descriptors(1);
                let client = crore::spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    assert_eq!(code(TcpStream::connect(address)), Some(libc::EMFILE));
                    stream.write_all(b"x").unwrap();
                    stream.read_exact(&mut [0])
                });
                for _ in 0..3 {
                    assert_eq!(code(listener.accept()), Some(libc::EMFILE));
                }
                drop(taken);
                // No new connection comes: the one that waits must not be forgotten.
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0]).unwrap();
                stream.write_all(b"y").unwrap();
                client.join().unwrap().unwrap();
            })
            .unwrap();
        },
    );
}

/// Sends `SIGALRM` to every thread that there is, again and again, until
/// dropped. (A process's timer would pick the one thread that has nothing to do.)
struct Storm(Arc<AtomicBool>, Option<thread::JoinHandle<()>>);

static SIGNALS: AtomicU64 = AtomicU64::new(0);

impl Storm {
    fn begin(every: Duration) -> Self {
        extern "C" fn count(_: libc::c_int) {
            SIGNALS.fetch_add(1, Relaxed);
        }
        // SAFETY: the handler adds to an atomic; all zeros are a valid action.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as *const () as usize;
            // No SA_RESTART: calls fail with EINTR.
            action.sa_flags = libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()), 0);
        }
        let threads: Vec<libc::pid_t> = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        let over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&over);
        let sender = thread::spawn(move || {
            while !theirs.load(Relaxed) {
                for &thread in &threads {
                    // SAFETY: no pointers; a thread that has ended is an error.
                    unsafe {
                        libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGALRM)
                    };
                }
                thread::sleep(every);
            }
        });
        Self(over, Some(sender))
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        self.1.take().unwrap().join().unwrap();
    }
}

#[test]
fn interrupted_calls_lose_no_byte() {
    succeeds("interrupted_calls_lose_no_byte", || {
        crore::run(|| {
            let _storm = Storm::begin(Duration::from_millis(1));
            let pairs: Vec<_> = (0..10)
                .map(|_| {
                    let (near, far) = tcp_pair();
                    let echo = crore::spawn(move || io::copy(&mut &far, &mut &far).unwrap());
                    let talk = crore::spawn(move || {
                        let mut near = near;
                        let mut total = 0_u64;
                        let mut byte = 0_u8;
                        // As long as it takes to be interrupted often.
                        while SIGNALS.load(Relaxed) < 1000 {
                            let out: Vec<_> = (0..3000)
                                .map(|_| {
                                    byte = byte.wrapping_mul(5).wrapping_add(1);
                                    byte
                                })
                                .collect();
                            near.write_all(&out).unwrap();
                            let mut back = vec![0; out.len()];
                            near.read_exact(&mut back).unwrap();
                            assert_eq!(back, out);
                            total += out.len() as u64;
                            // The worker itself sleeps, and is interrupted.
                            crore::sleep(Duration::from_millis(2));
                        }
                        total
                    });
                    (echo, talk)
                })
                .collect();
            for (echo, talk) in pairs {
                assert_eq!(talk.join().unwrap(), echo.join().unwrap());
            }
        })
        .unwrap();
        assert!(SIGNALS.load(Relaxed) >= 1000);
    });
}

#[test]
fn signals_during_switches_do_no_harm() {
    succeeds("signals_during_switches_do_no_harm", || {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        runtime
            .run(|| {
                let _storm = Storm::begin(Duration::from_micros(50));
                let handles: Vec<JoinHandle<u64>> = (0..1000_u64)
                    .map(|i| {
                        let body = move || {
                            let mut sum = 0_u64;
                            let mut rounds = 0;
                            while rounds < 20 || SIGNALS.load(Relaxed) < 2_000 {
                                let local = std::hint::black_box([i; 16]);
                                crore::yield_now();
                                sum += local.iter().sum::<u64>() - 16 * i;
                                rounds += 1;
                            }
                            sum + i
                        };
                        if i % 2 == 0 {
                            crore::spawn(body)
                        } else {
                            // SAFETY: the closure hands out no reference to its frames.
                            unsafe { crore::spawn_shared(body) }
                        }
                    })
                    .collect();
                let total: u64 = handles
                    .into_iter()
                    .map(|handle| handle.join().unwrap())
                    .sum();
                assert_eq!(total, 999 * 1000 / 2);
            })
            .unwrap();
    });
}

/// Closes so that the peer sees a reset instead of an end.
fn reset(stream: TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: a live option of the size that is said.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as u32,
        )
    };
    assert_eq!(set, 0);
}

#[test]
fn a_reset_at_each_point_of_an_exchange_is_an_error_there() {
    crore::run(|| {
        // While the read is parked.
        let (near, far) = tcp_pair();
        let reader = crore::spawn(move || (&near).read(&mut [0]));
        crore::yield_now();
        reset(far);
        assert_eq!(
            reader.join().unwrap().unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );

        // Before the read; then the connection has just ended.
        let (mut near, far) = tcp_pair();
        reset(far);
        assert_eq!(
            near.read(&mut [0]).unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        assert_eq!(near.read(&mut [0]).unwrap(), 0);

        // After a first byte that was read.
        let (mut near, mut far) = tcp_pair();
        far.write_all(b"x").unwrap();
        near.read_exact(&mut [0]).unwrap();
        let reader = crore::spawn(move || (near.read(&mut [0]), near));
        crore::yield_now();
        reset(far);
        let (read, mut near) = reader.join().unwrap();
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(near.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);

        // While a write is parked: it says how far it came, the next one fails.
        let (near, far) = tcp_pair();
        let writer = crore::spawn(move || {
            let mut near = &near;
            let sent = near.write(&vec![0; 64 << 20]);
            (sent, near.write(b"x"))
        });
        crore::yield_now();
        reset(far);
        let (sent, next) = writer.join().unwrap();
        assert!(sent.unwrap() < 64 << 20);
        let kind = next.unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "{kind}"
        );

        // In the listener's queue: accept and read still work, in that order.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        reset(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!(
            accepted.read(&mut [0]).unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    })
    .unwrap();
}

#[test]
fn half_a_close_ends_one_direction() {
    crore::run(|| {
        let (mut near, far) = tcp_pair();
        let far = Arc::new(far);
        let theirs = Arc::clone(&far);
        let collector = crore::spawn(move || {
            let mut all = String::new();
            (&*theirs).read_to_string(&mut all).map(|_| all)
        });
        near.write_all(b"all there is").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(collector.join().unwrap().unwrap(), "all there is");
        // The other direction goes on, parked reads too.
        let answer = crore::spawn(move || {
            let mut all = String::new();
            near.read_to_string(&mut all)
                .map(|_| (all, near.write(b"x")))
        });
        crore::yield_now();
        (&*far).write_all(b"answer").unwrap();
        crore::yield_now();
        far.shutdown(Shutdown::Write).unwrap();
        let (text, late) = answer.join().unwrap().unwrap();
        assert_eq!(text, "answer");
        assert_eq!(late.unwrap_err().kind(), ErrorKind::BrokenPipe);
    })
    .unwrap();
}

#[test]
fn a_slow_reader_slows_its_writer_and_nobody_else() {
    crore::run(|| {
        const BYTES: usize = 8 << 20;
        let (near, far) = tcp_pair();
        let writer = crore::spawn(move || {
            let bytes: Vec<_> = (0..BYTES).map(|i| (i % 251) as u8).collect();
            (&near).write_all(&bytes)
        });
        crore::yield_now();
        assert!(!writer.is_finished(), "more than the buffers hold");
        // The others talk meanwhile.
        let (mut one, mut two) = tcp_pair();
        for _ in 0..1000 {
            one.write_all(b"ping").unwrap();
            two.read_exact(&mut [0; 4]).unwrap();
        }
        assert!(!writer.is_finished());
        let (mut far, mut total, mut piece) = (far, 0, vec![0; 10_007]);
        while total < BYTES {
            let n = far.read(&mut piece).unwrap();
            assert!(
                piece[..n]
                    .iter()
                    .enumerate()
                    .all(|(i, &byte)| byte == ((total + i) % 251) as u8)
            );
            total += n;
            crore::yield_now();
        }
        writer.join().unwrap().unwrap();
    })
    .unwrap();
}

#[test]
fn an_empty_datagram_is_one() {
    crore::run(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let receiver = crore::spawn(move || {
            (0..4)
                .map(|_| socket.recv_from(&mut [7; 8]).unwrap().0)
                .collect::<Vec<_>>()
        });
        crore::yield_now();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for word in [&b""[..], b"ab", b"", b"c"] {
            assert_eq!(sender.send_to(word, address).unwrap(), word.len());
            crore::yield_now();
        }
        assert_eq!(receiver.join().unwrap(), [0, 2, 0, 1]);
    })
    .unwrap();
}

#[test]
fn closing_wakes_waiters_of_other_workers_and_numbers_are_used_again() {
    // In a process of its own: nobody else may take the number.
    let name = "closing_wakes_waiters_of_other_workers_and_numbers_are_used_again";
    succeeds(name, || {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let handle = runtime.handle();
        runtime
            .run(|| {
                for _ in 0..200 {
                    let (near, _far) = UnixStream::pair().unwrap();
                    let number: RawFd = near.into_raw_fd();
                    let waiter = crore::spawn(move || {
                        let mut byte = 0_u8;
                        // SAFETY: a live place of one byte.
                        let read = unsafe { libc::read(number, (&raw mut byte).cast(), 1) };
                        (read, io::Error::last_os_error().raw_os_error())
                    });
                    let id = waiter.coroutine().id();
                    let parked = |info: &CoroutineInfo| {
                        info.id() == id && info.state() == CoroutineState::Parked
                    };
                    while !handle.dump().iter().any(parked) {
                        crore::yield_now();
                    }
                    // SAFETY: the number is ours, and its owner was given up.
                    unsafe { libc::close(number) };
                    // The same number again, and something to read: not for the waiter.
                    let (mut here, mut there) = UnixStream::pair().unwrap();
                    assert!([here.as_raw_fd(), there.as_raw_fd()].contains(&number));
                    here.write_all(b"x").unwrap();
                    there.write_all(b"y").unwrap();
                    assert_eq!(waiter.join().unwrap(), (-1, Some(libc::EBADF)));
                    here.read_exact(&mut [0]).unwrap();
                    there.read_exact(&mut [0]).unwrap();
                }
            })
            .unwrap();
    });
}

#[test]
fn ten_thousand_descriptors_are_polled_at_once() {
    succeeds("ten_thousand_descriptors_are_polled_at_once", || {
        let _ = rlimit::increase_nofile_limit(30_000).unwrap();
        crore::run(|| {
            const MOST: usize = 5_000;
            let pairs: Vec<_> = (0..MOST).map(|_| UnixStream::pair().unwrap()).collect();
            let fds: Vec<_> = pairs
                .iter()
                .flat_map(|(a, b)| [a.as_raw_fd(), b.as_raw_fd()])
                .collect();
            let waiter = crore::spawn(move || {
                let mut entries: Vec<_> = fds
                    .iter()
                    .map(|&fd| libc::pollfd {
                        fd,
                        events: libc::POLLIN,
                        revents: 0,
                    })
                    .collect();
                // SAFETY: as many entries as are said.
                let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as u64, -1) };
                let at: Vec<_> = (0..entries.len())
                    .filter(|&i| entries[i].revents != 0)
                    .collect();
                (ready, at)
            });
            crore::yield_now();
            assert!(!waiter.is_finished());
            (&pairs[MOST - 1].0).write_all(b"x").unwrap();
            assert_eq!(waiter.join().unwrap(), (1, vec![2 * MOST - 1]));
        })
        .unwrap();
    });
}

#[test]
fn timers_far_away_and_at_zero() {
    crore::run(|| {
        let far: Vec<_> = [
            Duration::MAX,
            LONG,
            Duration::from_secs(u64::from(u32::MAX)),
            LONG * 10_000,
        ]
        .into_iter()
        .flat_map(|time| {
            [
                crore::spawn(move || crore::sleep(time)),
                crore::spawn(move || crore::park_timeout(time)),
                crore::spawn(move || _ = crore::timeout(time, crore::park)),
                crore::spawn(move || std::thread::sleep(time)),
            ]
        })
        .collect();
        let start = Instant::now();
        for _ in 0..1000 {
            crore::sleep(Duration::ZERO);
            crore::sleep_until(start);
            crore::park_timeout(Duration::ZERO);
            std::thread::sleep(Duration::ZERO);
            assert!(crore::timeout(Duration::ZERO, crore::park).is_err());
        }
        crore::sleep(Duration::from_nanos(1));
        assert!(far.iter().all(|handle| !handle.is_finished()));
        far.iter().for_each(JoinHandle::cancel);
        for handle in far {
            // Hooked sleeps end, our own unwind.
            assert!(handle.join().err().is_none_or(|error| error.is_cancelled()));
        }
    })
    .unwrap();
}

#[test]
fn children_are_forked_and_run_while_others_are_parked() {
    crore::run(|| {
        let count = Arc::new(AtomicU32::new(0));
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let (near, far) = UnixStream::pair().unwrap();
                let count = Arc::clone(&count);
                let reader = crore::spawn(move || {
                    (&near).read_exact(&mut [0]).unwrap();
                    count.fetch_add(1, Relaxed);
                });
                (reader, far)
            })
            .collect();
        crore::yield_now();
        for i in 0..5 {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("read word; echo $word {i}")])
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            assert_eq!(
                String::from_utf8_lossy(&output.stdout).trim(),
                i.to_string()
            );
        }
        // The parent's reactor has lost nothing by it.
        for (i, (reader, mut far)) in readers.into_iter().enumerate() {
            assert_eq!(count.load(Relaxed), i as u32);
            far.write_all(b"x").unwrap();
            reader.join().unwrap();
        }
    })
    .unwrap();
}
