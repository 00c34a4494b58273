//! Sightings: what a worker's thread is found doing by others, who have sent it a signal
//! (`sight.rs`). Here is the place where its handler leaves that; it waits there until
//! they have looked at the thread's stack.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::snapshot::TaskInfo;
use crate::shim::atomic::{AtomicU32, Ordering};
use crate::shim::{NoParkMutex, UnsafeCell, futex};
use crate::sys::unwind::RegisterSet;

/// Return addresses that a sighting has room for.
const FRAMES: usize = 64;

/// How long a thread waits at the most until its stack has been looked at.
const HELD: Duration = Duration::from_millis(20);

/// Where one is left. Whoever has moved `state` to [`BEING_MADE`] may write, and so may
/// the asker while it is [`IDLE`], [`HOLDS`] or [`GOES_ON`].
pub(super) struct Sighting {
    asker: NoParkMutex<()>,
    state: AtomicU32,
    seen: UnsafeCell<Seen>,
}

/// What is seen from within a signal handler: neither memory nor locks are taken.
#[derive(Default)]
pub(super) struct Seen {
    /// Who runs, in words.
    text: ShortText,
    /// How often the worker had switched.
    pub(super) switches: [u64; 2],
    /// The start routine of the thread that it stands for, if it does.
    pub(super) start: Option<usize>,
    /// Where.
    pub(super) registers: RegisterSet,
    /// The stack of the coroutine that runs, if one does.
    pub(super) stack: Range<usize>,
    frames: Frames,
    /// As many as there is room for, which the asker has made.
    pub(super) tasks: Vec<TaskInfo>,
}

struct ShortText {
    bytes: [u8; 256],
    len: usize,
}

struct Frames {
    addresses: [usize; FRAMES],
    len: usize,
}

const IDLE: u32 = 0;
const WANTED: u32 = 1;
pub(super) const BEING_MADE: u32 = 2;
/// It is made, and the thread waits.
const HOLDS: u32 = 3;
/// It is made, and the thread does not wait, or no more.
const GOES_ON: u32 = 4;

// SAFETY: `seen` is touched by one side at a time, which `state` says: by the handler
// between its exchange to BEING_MADE (Acquire) and its store of HOLDS or GOES_ON (Release);
// before WANTED (Release) and after those (Acquire) by the one asker that has the lock.
// What is in it may be sent: tasks in words.
unsafe impl Sync for Sighting {}

impl Default for Sighting {
    fn default() -> Self {
        Self {
            asker: NoParkMutex::default(),
            state: AtomicU32::new(IDLE),
            seen: UnsafeCell::new(Seen::default()),
        }
    }
}

impl Sighting {
    /// Makes one, with room for so many tasks: `send` has the handler called, and
    /// `wait` says, over and over, whether to wait on. While the thread is held, `look`
    /// looks at its stack; that takes neither memory nor locks.
    pub(super) fn ask(
        &self,
        tasks: usize,
        send: impl FnOnce() -> bool,
        mut wait: impl FnMut(&AtomicU32, u32) -> bool,
        look: impl FnOnce(&mut Seen),
    ) -> Option<Seen> {
        let _one = self.asker.lock();
        // SAFETY: IDLE, as we leave it, and we are the asker.
        self.seen
            .with_mut(|seen| unsafe { (*seen).tasks = Vec::with_capacity(tasks) });
        self.state.store(WANTED, Ordering::Release);
        let sent = send();
        loop {
            match self.state.load(Ordering::Acquire) {
                HOLDS | GOES_ON => break,
                state => {
                    let end = !sent || !wait(&self.state, state);
                    if end && self.exchange(WANTED, IDLE) {
                        return None;
                    }
                }
            }
        }
        // SAFETY: HOLDS or GOES_ON, and we are the asker.
        let mut seen = self
            .seen
            .with_mut(|seen| unsafe { std::mem::take(&mut *seen) });
        if self.state.load(Ordering::Acquire) == HOLDS {
            look(&mut seen);
        }
        let was = self.state.swap(IDLE, Ordering::AcqRel);
        futex::wake(&self.state, 1);
        if was == GOES_ON {
            // It went on while it was looked at, or was not: where it was is known.
            seen.frames.len = 0;
            seen.add_frame(seen.registers.ip());
        }
        Some(seen)
    }

    /// In the handler: makes the one that is wanted, if one is; then the thread waits, if
    /// it is to be held, until it has been looked at: `hold` says, over and over, whether
    /// to wait on.
    pub(super) fn make(
        &self,
        hold: Option<impl FnMut(&AtomicU32, u32) -> bool>,
        see: impl FnOnce(&mut Seen),
    ) {
        if !self.exchange(WANTED, BEING_MADE) {
            return;
        }
        // SAFETY: between the two states it is ours.
        self.seen.with_mut(|seen| see(unsafe { &mut *seen }));
        let made = if hold.is_some() { HOLDS } else { GOES_ON };
        self.state.store(made, Ordering::Release);
        futex::wake(&self.state, 1);
        let Some(mut hold) = hold else {
            return;
        };
        // Acquire: what the asker reads of the stack comes before the stack goes on.
        while self.state.load(Ordering::Acquire) == HOLDS {
            if !hold(&self.state, HOLDS) {
                self.exchange(HOLDS, GOES_ON);
            }
        }
    }

    fn exchange(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

/// Waits while a thread is held, and says whether to wait on.
pub(super) fn hold() -> impl FnMut(&AtomicU32, u32) -> bool {
    let mut end = None;
    move |state, now| {
        let end = *end.get_or_insert_with(|| Instant::now() + HELD);
        let left = end.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            futex::wait(state, now, Some(left));
        }
        !left.is_zero()
    }
}

impl Seen {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.bytes[..self.text.len]).into_owned()
    }

    /// `false` when it is full.
    pub(super) fn add_frame(&mut self, address: usize) -> bool {
        let frames = &mut self.frames;
        if let Some(place) = frames.addresses.get_mut(frames.len) {
            *place = address;
            frames.len += 1;
        }
        frames.len < FRAMES
    }

    /// The innermost first.
    pub(super) fn frames(&self) -> &[usize] {
        &self.frames.addresses[..self.frames.len]
    }

    /// `false` when there is no room for more.
    pub(super) fn add_task(&mut self, task: TaskInfo) -> bool {
        let has_room = self.tasks.len() < self.tasks.capacity();
        if has_room {
            self.tasks.push(task);
        } else {
            // To drop it might free memory.
            std::mem::forget(task);
        }
        has_room
    }
}

impl Default for ShortText {
    fn default() -> Self {
        Self {
            bytes: [0; 256],
            len: 0,
        }
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            addresses: [0; FRAMES],
            len: 0,
        }
    }
}

impl fmt::Write for Seen {
    /// Cuts off what it has no room for.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let ShortText { bytes, len } = &mut self.text;
        let room = &mut bytes[*len..];
        let fits = room.len().min(text.len());
        room[..fits].copy_from_slice(&text.as_bytes()[..fits]);
        *len += fits;
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::fmt::Write;
    use std::thread;

    /// As a thread that is not held.
    const GOES_ON_AT_ONCE: Option<fn(&AtomicU32, u32) -> bool> = None;

    #[test]
    fn what_is_made_is_seen_once_and_nothing_comes_uncalled() {
        let sighting = Sighting::default();
        let unwanted = || sighting.make(GOES_ON_AT_ONCE, |_| panic!("nobody wants it"));
        unwanted();
        let answers = |_: &AtomicU32, _| {
            sighting.make(GOES_ON_AT_ONCE, |seen| seen.write_str("one").unwrap());
            true
        };
        let seen = sighting.ask(0, || true, answers, |_| panic!("it is not held"));
        assert_eq!(seen.unwrap().text(), "one");
        assert!(sighting.ask(0, || false, |_, _| true, |_| ()).is_none());
        let mut asked = 0;
        let wait = |_: &AtomicU32, _| {
            asked += 1;
            asked < 3
        };
        assert!(sighting.ask(0, || true, wait, |_| ()).is_none());
        assert_eq!(asked, 3);
        unwanted();
    }

    /// Asks a thread that is held, and looks for so long: the frames that were found, and
    /// how long the thread was held.
    fn look_for(time: Duration) -> (Vec<usize>, Duration) {
        let sighting = Sighting::default();
        thread::scope(|scope| {
            let held = scope.spawn(|| {
                while sighting.state.load(Ordering::Relaxed) != WANTED {
                    thread::yield_now();
                }
                let begun = Instant::now();
                sighting.make(Some(hold()), |_| ());
                begun.elapsed()
            });
            let wait = |state: &AtomicU32, now| {
                futex::wait(state, now, Some(Duration::from_secs(60)));
                true
            };
            let look = |seen: &mut Seen| {
                seen.add_frame(1);
                thread::sleep(time);
            };
            let seen = sighting.ask(0, || true, wait, look).unwrap();
            (seen.frames().to_vec(), held.join().unwrap())
        })
    }

    #[test]
    fn a_thread_waits_while_it_is_looked_at_but_not_for_ever() {
        let mut looks = (0..100).map(|_| look_for(Duration::from_millis(1)));
        let held_once = looks.find(|(frames, _)| frames == &[1]);
        assert!(held_once.unwrap().1 >= Duration::from_millis(1));
        let (frames, held) = look_for(HELD * 5);
        // Where it was is known, but no more.
        assert!(frames == [0] && held >= HELD, "{frames:?} {held:?}");
    }

    #[test]
    fn what_is_too_long_is_cut_off() {
        let mut seen = Seen::default();
        (0..100).for_each(|_| seen.write_str("12345").unwrap());
        assert_eq!(seen.text().len(), 256);
        assert_eq!(
            (1..=100).take_while(|&i| seen.add_frame(i)).count(),
            FRAMES - 1
        );
        assert_eq!(seen.frames().len(), FRAMES);
    }
}
