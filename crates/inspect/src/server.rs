//! The program's side: a thread that answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crore::Handle;

use crate::{PATIENCE, Question, Summary, address, peer, prometheus};

/// How long a profile takes.
const PROFILE: Duration = Duration::from_secs(5);

/// Bytes of a question, at most.
const LONGEST: u64 = 64;

/// The program can be looked into while this lives.
#[derive(Debug)]
#[must_use = "dropped, it answers nobody"]
pub struct Inspected {
    door: Arc<Door>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Lets others look into a runtime, with [`ask`](crate::ask) or the command `crore`, under this
/// process's id: the same user, and root. One runtime of a process at a time.
///
/// A thread of its own waits for questions. Forked children answer nobody.
///
/// # Errors
///
/// `AddrInUse`: this process has one already. What the kernel says to sockets and threads.
pub fn serve(handle: Handle) -> io::Result<Inspected> {
    let door = Arc::new(Door::open()?);
    let ending = Arc::new(AtomicBool::new(false));
    let (theirs, end) = (Arc::clone(&door), Arc::clone(&ending));
    let body = move || {
        while let Some(stream) = theirs.next(&end) {
            // Whoever asks badly hears nothing.
            let _ = answer(&handle, stream);
        }
        if !theirs.is_ours() {
            // Not ours to close.
            std::mem::forget(theirs);
        }
    };
    // The kernel's thread, wherever it is started.
    let start = || {
        thread::Builder::new()
            .name("crore-inspect".into())
            .spawn(body)
    };
    let thread = quietly(|| crore::unhooked(start))?;
    Ok(Inspected {
        door,
        ending,
        thread: Some(thread),
    })
}

impl Drop for Inspected {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        if self.door.is_ours() {
            // SAFETY: no memory; it ends the thread's wait.
            unsafe { libc::shutdown(self.door.listener.as_raw_fd(), libc::SHUT_RDWR) };
        } else {
            // The program has closed it, and the numbers may be another's: not ours to
            // close. The thread waits for what is gone.
            std::mem::forget(Arc::clone(&self.door));
            self.thread = None;
        }
        if let Some(thread) = self.thread.take() {
            // It does not panic; and if it did, it has said so.
            let _ = thread.join();
        }
    }
}

/// Where questions come in.
///
/// Programs close what they do not know, and open something else by the number. So the
/// thread waits by an epoll, which does not keep the socket: where the program closes
/// that, whoever asks is refused at once. (A `poll` would keep it, and wait on for what
/// has its number now; an `accept` that waits has a number for its connection already,
/// which the program would have got.)
#[derive(Debug)]
struct Door {
    listener: UnixListener,
    epoll: OwnedFd,
}

impl Door {
    fn open() -> io::Result<Self> {
        let listener = UnixListener::bind_addr(&address(process::id())?)?;
        listener.set_nonblocking(true)?;
        // SAFETY: no memory.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let door = Self { listener, epoll };
        door.watch()?;
        Ok(door)
    }

    fn watch(&self) -> io::Result<()> {
        let (epoll, listener) = (self.epoll.as_raw_fd(), self.listener.as_raw_fd());
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0,
        };
        // SAFETY: an event of ours.
        match unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, listener, &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether both numbers are still what was opened.
    fn is_ours(&self) -> bool {
        let same = match (self.listener.local_addr(), address(process::id())) {
            (Ok(bound), Ok(name)) => {
                bound.as_abstract_name().is_some()
                    && bound.as_abstract_name() == name.as_abstract_name()
            }
            _ => false,
        };
        // Only our epoll has it already.
        same && match self.watch() {
            Ok(()) => {
                let (epoll, listener) = (self.epoll.as_raw_fd(), self.listener.as_raw_fd());
                // SAFETY: no memory.
                unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, listener, ptr::null_mut()) };
                false
            }
            Err(error) => error.kind() == io::ErrorKind::AlreadyExists,
        }
    }

    /// Whoever asks next; nobody once there is an end.
    fn next(&self, end: &AtomicBool) -> Option<UnixStream> {
        loop {
            if end.load(Ordering::Acquire) || !self.is_ours() {
                return None;
            }
            let mut event = MaybeUninit::uninit();
            // SAFETY: room for one event.
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), event.as_mut_ptr(), 1, -1) };
            if !self.is_ours() {
                return None;
            }
            match self.listener.accept() {
                Ok((stream, _)) => return Some(stream),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                    ) => {}
                // Out of descriptors, say: later there may be some.
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

/// Not empty, which would be no answer.
fn folded(stacks: String) -> String {
    match stacks.is_empty() {
        true => "(idle) 0\n".into(),
        false => stacks,
    }
}

fn answer(handle: &Handle, stream: UnixStream) -> io::Result<()> {
    if !peer::is_trusted(&stream)? {
        return Ok(());
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(LONGEST)).read_line(&mut line)?;
    let text = match Question::parse(&line) {
        Some(Question::Dump) => handle.dump().to_string(),
        Some(Question::Json) => handle.dump().to_json() + "\n",
        Some(Question::Metrics) => prometheus(&handle.worker_metrics()),
        Some(Question::Summary) => Summary::of(handle).to_string(),
        Some(Question::Profile) => folded(handle.profile(PROFILE).to_string()),
        Some(Question::Contention) => folded(handle.contention(PROFILE).to_string()),
        None => "there is no such question\n".into(),
    };
    (&stream).write_all(text.as_bytes())
}

/// Starts a thread that takes no signals: those are for the program's.
fn quietly<T>(start: impl FnOnce() -> T) -> T {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: places of ours, filled before they are read.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let started = start();
    // SAFETY: `before` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    started
}
