//! Sightings: what a worker's thread is found doing by others, who have sent it a signal
//! (`sight.rs`). Here is the place where its handler leaves that.

use std::cell::UnsafeCell;
use std::fmt;
// Not from the shim: the handle that holds one lives longer than a loom model.
use std::sync::atomic::{AtomicU32, Ordering};

use super::snapshot::TaskInfo;
use crate::util::no_park::NoParkMutex;

/// Return addresses that a sighting has room for.
const FRAMES: usize = 64;

/// Where one is left. Whoever has moved `state` to [`BEING_MADE`] may write, and so may
/// the asker while it is [`IDLE`] or [`MADE`].
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
const BEING_MADE: u32 = 2;
const MADE: u32 = 3;

// SAFETY: `seen` is touched by one side at a time, which `state` says: by the handler
// between its exchange to BEING_MADE (Acquire) and its store of MADE (Release); before
// WANTED (Release) and after MADE (Acquire) by the one asker that has the lock. What is
// in it may be sent: tasks in words.
unsafe impl Sync for Sighting {}

impl Default for Sighting {
    fn default() -> Self {
        Self {
            asker: NoParkMutex::default(),
            state: AtomicU32::new(IDLE),
            seen: UnsafeCell::default(),
        }
    }
}

impl Sighting {
    /// Makes one, with room for so many tasks: `send` has the handler called, and
    /// `wait` says, over and over, whether to wait on.
    pub(super) fn ask(
        &self,
        tasks: usize,
        send: impl FnOnce() -> bool,
        mut wait: impl FnMut() -> bool,
    ) -> Option<Seen> {
        let _one = self.asker.lock();
        // SAFETY: IDLE or MADE, as we leave it, and we are the asker.
        unsafe { (*self.seen.get()).tasks = Vec::with_capacity(tasks) };
        self.state.store(WANTED, Ordering::Release);
        let sent = send();
        while self.state.load(Ordering::Acquire) != MADE {
            let end = !sent || !wait();
            if end && self.exchange(WANTED, IDLE) {
                return None;
            }
        }
        // SAFETY: MADE, and we are the asker.
        Some(std::mem::take(unsafe { &mut *self.seen.get() }))
    }

    /// In the handler: makes the one that is wanted, if one is.
    pub(super) fn make(&self, see: impl FnOnce(&mut Seen)) {
        if self.exchange(WANTED, BEING_MADE) {
            // SAFETY: between the two states it is ours.
            see(unsafe { &mut *self.seen.get() });
            self.state.store(MADE, Ordering::Release);
        }
    }

    fn exchange(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
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

    #[test]
    fn what_is_made_is_seen_once_and_nothing_comes_uncalled() {
        let sighting = Sighting::default();
        sighting.make(|_| panic!("nobody wants it"));
        let answer = |text: &str| sighting.make(|seen| seen.write_str(text).unwrap());
        let seen = sighting.ask(
            0,
            || true,
            || {
                answer("one");
                true
            },
        );
        assert_eq!(seen.unwrap().text(), "one");
        assert!(sighting.ask(0, || false, || true).is_none());
        let mut asked = 0;
        let none = sighting.ask(
            0,
            || true,
            || {
                asked += 1;
                asked < 3
            },
        );
        assert!(none.is_none() && asked == 3);
        sighting.make(|_| panic!("it is not wanted any more"));
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
