//! Two worlds with the same descriptors: in one each call is made by a thread of its own,
//! in the other by a coroutine of its own. What the threads get, and which of them wait
//! for how long, is what the coroutines must get.
//!
//! No time is measured: a thread waits if the kernel says that it sleeps in a system call,
//! and a coroutine must be as far as its thread was before the next call is made.

use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

/// The descriptors of a world, by their places in it.
pub(super) type Descriptors = Arc<Vec<OwnedFd>>;

/// A call on descriptors of a world, and what it says.
pub(super) type Call = Arc<dyn Fn(&[RawFd]) -> String + Send + Sync>;

/// What was done in a world, and which calls were over after each step.
#[derive(Default)]
pub(super) struct Story {
    steps: Vec<(String, Call)>,
    over: Vec<Vec<(usize, String)>>,
}

impl Story {
    /// The steps up to one, for people.
    fn tell(&self, last: usize) -> String {
        let mut text = String::new();
        for (at, (name, _)) in self.steps.iter().enumerate().take(last + 1) {
            let over = self.over.get(at).map_or(&[][..], |over| over);
            let _ = writeln!(text, "  {at}: {name}   over on threads: {over:?}");
        }
        text
    }
}

/// A call that was begun, and its answer.
#[derive(Default)]
struct Begun {
    thread: AtomicI32,
    answer: Mutex<Option<String>>,
}

impl Begun {
    fn run(&self, call: &Call, fds: &[RawFd]) {
        let answer = call(fds);
        *self.answer.lock().unwrap() = Some(answer);
    }

    fn answer(&self) -> Option<String> {
        self.answer.lock().unwrap().clone()
    }
}

/// The descriptors of a world. The last is an eventfd, by which waits for several end.
fn with_release(mut fds: Vec<OwnedFd>) -> Descriptors {
    // SAFETY: no pointers; made just now.
    fds.push(unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, 0)) });
    Arc::new(fds)
}

fn numbers(fds: &Descriptors) -> Vec<RawFd> {
    fds.iter().map(AsRawFd::as_raw_fd).collect()
}

/// What TCP and terminals have on their way arrives: terminals bring it where they are
/// asked.
fn arrived(fds: &[RawFd]) {
    let until = Instant::now() + Duration::from_millis(200);
    for &fd in fds {
        let on_its_way = || {
            let (mut kind, mut len, mut bytes) = (0, 4, 0);
            let (place, len): (*mut i32, *mut u32) = (&raw mut kind, &raw mut len);
            // SAFETY: places for ints.
            unsafe {
                libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL, place.cast(), len) == 0
                    && kind == libc::IPPROTO_TCP
                    && libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) == 0
                    && bytes > 0
            }
        };
        while on_its_way() && Instant::now() < until {
            thread::yield_now();
        }
        let mut entry = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry.
        unsafe { libc::poll(&raw mut entry, 1, 0) };
    }
}

/// The world of threads: it is played step by step, and leaves its story.
pub(super) struct Threads {
    fds: Descriptors,
    begun: Vec<Option<Arc<Begun>>>,
    story: Story,
}

impl Threads {
    pub(super) fn new(fds: Vec<OwnedFd>) -> Self {
        Self {
            fds: with_release(fds),
            begun: Vec::new(),
            story: Story::default(),
        }
    }

    /// How many calls were begun.
    pub(super) fn begun(&self) -> usize {
        self.begun.len()
    }

    pub(super) fn is_over(&self, call: usize) -> bool {
        self.begun[call].is_none()
    }

    /// Makes a call; which of all calls are over by then.
    pub(super) fn step(&mut self, name: String, call: Call) -> &[(usize, String)] {
        let begun = Arc::new(Begun::default());
        let (ours, theirs, fds) = (Arc::clone(&begun), Arc::clone(&call), Arc::clone(&self.fds));
        thread::spawn(move || {
            // SAFETY: no arguments.
            ours.thread
                .store(unsafe { libc::gettid() }, Ordering::SeqCst);
            ours.run(&theirs, &numbers(&fds));
        });
        self.begun.push(Some(begun));
        self.story.steps.push((name, call));
        let mut over = Vec::new();
        // The end of one may end another's wait, and so may its beginning.
        let mut looks = 0;
        while looks < 2 {
            let before = over.len();
            arrived(&numbers(&self.fds));
            for (at, place) in self.begun.iter_mut().enumerate() {
                if let Some(answer) = place.as_ref().and_then(|begun| settled(begun)) {
                    over.push((at, answer));
                    *place = None;
                }
            }
            looks = if over.len() == before { looks + 1 } else { 0 };
        }
        over.sort();
        self.story.over.push(over);
        self.story.over.last().expect("pushed just now")
    }

    /// Ends what still waits.
    pub(super) fn end(self) -> Story {
        static HANDLER: Once = Once::new();
        extern "C" fn nothing(_: i32) {}
        let signal = libc::SIGRTMIN() + 7;
        // SAFETY: zeros are a valid action; the handler does nothing.
        HANDLER.call_once(|| unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        });
        for begun in self.begun.into_iter().flatten() {
            while begun.answer().is_none() {
                let thread = begun.thread.load(Ordering::SeqCst);
                // SAFETY: no pointers. (The number may be gone; it is no other's so soon.)
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
                // Sent without a pause they leave the thread no time for anything else.
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.story
    }
}

/// The answer, or `None` once the thread waits for it.
fn settled(begun: &Begun) -> Option<String> {
    loop {
        if let Some(answer) = begun.answer() {
            return Some(answer);
        }
        let thread = begun.thread.load(Ordering::SeqCst);
        if thread != 0 && sleeps(thread) && begun.answer().is_none() && sleeps(thread) {
            return None;
        }
        thread::sleep(Duration::from_micros(20));
    }
}

/// Whether a thread sleeps in a system call that is no lock.
fn sleeps(thread: i32) -> bool {
    let read = |name| fs::read_to_string(format!("/proc/self/task/{thread}/{name}"));
    let (Ok(stat), Ok(call)) = (read("stat"), read("syscall")) else {
        return false;
    };
    let asleep = stat
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.starts_with(" S"));
    let number: Option<i64> = call.split(' ').next().and_then(|word| word.parse().ok());
    asleep && number.is_some_and(|number| number >= 0 && number != libc::SYS_futex)
}

/// Plays the story in coroutines.
///
/// # Errors
///
/// What was otherwise, with the steps up to there.
pub(super) fn retold(story: &Arc<Story>, fds: Vec<OwnedFd>) -> Result<(), String> {
    const LONG: Duration = Duration::from_secs(30);
    let at = Arc::new(AtomicI32::new(0));
    let (tell, told) = mpsc::channel();
    let (theirs, now) = (Arc::clone(story), Arc::clone(&at));
    thread::spawn(move || {
        let played = crore::run(|| play(&theirs, &with_release(fds), &now)).unwrap();
        let _ = tell.send(played);
    });
    let played = told.recv_timeout(LONG);
    let at = at.load(Ordering::SeqCst) as usize;
    let difference = match played {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(text)) => text,
        Err(error) => format!("the worker stands still ({error})"),
    };
    Err(format!("at step {at}: {difference}\n{}", story.tell(at)))
}

fn play(story: &Story, fds: &Descriptors, now: &AtomicI32) -> Result<(), String> {
    let mut begun: Vec<(Arc<Begun>, crore::JoinHandle<()>, bool)> = Vec::new();
    let mut played = Ok(());
    'steps: for (at, (_, call)) in story.steps.iter().enumerate() {
        now.store(at as i32, Ordering::SeqCst);
        let ours = Arc::new(Begun::default());
        let (theirs, call, all) = (Arc::clone(&ours), Arc::clone(call), Arc::clone(fds));
        let handle = crore::spawn(move || theirs.run(&call, &numbers(&all)));
        begun.push((ours, handle, false));
        for (which, expected) in &story.over[at] {
            let Some(answer) = ends(&begun[*which].0) else {
                played = Err(format!(
                    "call {which} waits, on a thread it says {expected}"
                ));
                break 'steps;
            };
            begun[*which].2 = true;
            if answer != *expected {
                played = Err(format!(
                    "call {which} says {answer}, on a thread {expected}"
                ));
                break 'steps;
            }
        }
        arrived(&numbers(fds));
        for _ in 0..2 {
            crore::sleep(Duration::from_micros(50));
        }
        for (which, (ours, _, over)) in begun.iter().enumerate() {
            if let Some(answer) = ours.answer().filter(|_| !over) {
                played = Err(format!("call {which} says {answer}, on a thread it waits"));
                break 'steps;
            }
        }
    }
    let release = numbers(fds).last().copied().expect("there is one");
    // SAFETY: no pointers.
    unsafe { libc::eventfd_write(release, 1) };
    for (_, handle, _) in begun {
        handle.cancel();
        let _ = handle.join();
    }
    played
}

/// The answer, which is to come.
fn ends(begun: &Begun) -> Option<String> {
    let until = Instant::now() + Duration::from_secs(4);
    loop {
        let answer = begun.answer();
        if answer.is_some() || Instant::now() > until {
            return answer;
        }
        crore::sleep(Duration::from_micros(50));
    }
}
