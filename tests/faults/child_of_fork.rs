//! The promise: in the child of a fork, hooked calls that POSIX allows there neither
//! allocate nor wait for a lock. The child has one thread; whatever others held at the
//! fork, the allocator's lock among it, is held for ever.
#![cfg(feature = "hook")]

use std::ffi::{CStr, c_int, c_void};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::with_own_locals;
use crate::heap::die;

/// In the child: what it calls now, with a nul.
static NOW: AtomicPtr<u8> = AtomicPtr::new(null_mut());

/// A look of the allocator's.
pub(crate) fn nothing_in_the_child() {
    let now = NOW.load(SeqCst);
    if !now.is_null() {
        // SAFETY: text with a nul.
        die(unsafe { CStr::from_ptr(now.cast()) });
    }
}

/// What the child calls its hooks on.
struct Things {
    stream: (UnixStream, UnixStream),
    listener: TcpListener,
    /// In the listener's queue.
    _client: TcpStream,
    file: OwnedFd,
}

impl Things {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Self {
            stream: UnixStream::pair().unwrap(),
            listener,
            _client: client,
            // SAFETY: a name; a descriptor that is ours.
            file: unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"file".as_ptr(), 0)) },
        }
    }
}

/// Says what is called, and calls it.
macro_rules! call {
    ($($text:expr => $call:expr;)*) => {$(
        NOW.store(concat!("the child allocates in ", $text, "\n\0").as_ptr().cast_mut(), SeqCst);
        let _ = $call;
    )*};
}

/// The child's part; never returns.
fn in_child(things: &Things) -> ! {
    let (near, far) = (things.stream.0.as_raw_fd(), things.stream.1.as_raw_fd());
    let (listener, file) = (things.listener.as_raw_fd(), things.file.as_raw_fd());
    let mut buffer = [0_u8; 64];
    let at = buffer.as_mut_ptr().cast::<c_void>();
    let mut ends: [c_int; 2] = [0; 2];
    let mut entry = libc::pollfd {
        fd: near,
        events: libc::POLLOUT,
        revents: 0,
    };
    let short = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000,
    };
    let none = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    // A wait for ever ends here.
    // SAFETY: each call has descriptors, and places that live; paths have a nul.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        call! {
            "alarm" => libc::alarm(20);
            "write" => libc::write(near, at, 8);
            "read" => libc::read(far, at, 8);
            "send" => libc::send(near, at, 8, 0);
            "recv" => libc::recv(far, at, 8, 0);
            "sendto" => libc::sendto(near, at, 8, 0, null_mut(), 0);
            "recvfrom" => libc::recvfrom(far, at, 8, 0, null_mut(), null_mut());
            "poll" => libc::poll(&mut entry, 1, -1);
            "select" => {
                let mut set: libc::fd_set = std::mem::zeroed();
                libc::FD_SET(near, &mut set);
                libc::select(near + 1, null_mut(), &mut set, null_mut(), &raw const none as *mut _)
            };
            "accept" => libc::accept(listener, null_mut(), null_mut());
            "socket" => libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
            "setsockopt" => libc::setsockopt(near, libc::SOL_SOCKET, libc::SO_RCVTIMEO,
                (&raw const none).cast(), 16);
            "socketpair" => libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr());
            "pipe" => libc::pipe(ends.as_mut_ptr());
            "dup" => libc::dup(near);
            "dup2" => libc::dup2(near, 200);
            "dup2 to a large number" => libc::dup2(near, 70_000);
            "dup3" => libc::dup3(near, 201, libc::O_CLOEXEC);
            "fcntl F_DUPFD" => libc::fcntl(near, libc::F_DUPFD, 300);
            "fcntl F_SETFL" => libc::fcntl(near, libc::F_SETFL, libc::O_NONBLOCK);
            "fcntl F_GETFL" => libc::fcntl(listener, libc::F_GETFL);
            "ioctl" => libc::ioctl(near, libc::FIONBIO, &mut 0);
            "open" => libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            "openat" => libc::openat(libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_RDWR);
            "pwrite" => libc::pwrite(file, at, 8, 0);
            "pread" => libc::pread(file, at, 8, 0);
            "fsync" => libc::fsync(file);
            "fdatasync" => libc::fdatasync(file);
            "lockf" => libc::lockf(file, libc::F_LOCK, 0);
            "nanosleep" => libc::nanosleep(&short, null_mut());
            "usleep" => libc::usleep(1);
            "sched_yield" => libc::sched_yield();
            "close_range" => libc::close_range(60_000, 80_000, 0);
            "close" => libc::close(200);
            "fork" => match libc::fork() {
                0 => libc::_exit(libc::close(201)),
                child => libc::waitpid(child, null_mut(), 0),
            };
            "fork and wait4" => match libc::fork() {
                0 => libc::_exit(0),
                _ => libc::wait4(-1, null_mut(), 0, null_mut()),
            };
            "shutdown" => libc::shutdown(near, libc::SHUT_RDWR);
        }
        libc::_exit(0)
    }
}

/// Forks, and looks how the child ends.
fn fork_once() {
    let things = Things::new();
    // SAFETY: the child calls what it may.
    let child = unsafe { libc::fork() };
    if child == 0 {
        in_child(&things);
    }
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: our child, a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child said why, or waits for ever");
}

#[test]
fn of_a_plain_thread() {
    (0..20).for_each(|_| fork_once());
}

/// Others take every lock there is, all the time.
fn amid_others(fork: impl FnOnce() + Send + 'static) {
    let done = Arc::new(AtomicBool::new(false));
    let runtime = crore::Runtime::builder().workers(2).build().unwrap();
    let theirs = done.clone();
    let busy = thread::spawn(move || {
        let work = move || {
            while !theirs.load(SeqCst) {
                let (near, far) = UnixStream::pair().unwrap();
                let reader = crore::spawn(move || std::io::copy(&mut &far, &mut std::io::sink()));
                let lock = Arc::new(std::sync::Mutex::new(0));
                let others: Vec<_> = (0..4)
                    .map(|_| {
                        let lock = lock.clone();
                        crore::spawn(move || {
                            let mut guard = lock.lock().unwrap();
                            crore::sleep(Duration::from_micros(50));
                            *guard += 1;
                        })
                    })
                    .collect();
                drop(near.try_clone().unwrap());
                drop(near);
                others.into_iter().for_each(|other| other.join().unwrap());
                reader.join().unwrap().unwrap();
            }
        };
        runtime.run(work).unwrap();
    });
    fork();
    done.store(true, SeqCst);
    busy.join().unwrap();
}

#[test]
fn of_a_plain_thread_beside_workers() {
    amid_others(|| {
        (0..50).for_each(|_| fork_once());
    });
}

#[test]
fn of_a_coroutine() {
    for own in with_own_locals() {
        amid_others(move || {
            let runtime = crore::Runtime::builder().own_thread_locals(own).build();
            let forks = || {
                (0..50).for_each(|_| fork_once());
            };
            runtime.unwrap().run(forks).unwrap();
        });
    }
}
