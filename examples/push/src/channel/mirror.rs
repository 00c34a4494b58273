//! Mirror: a channel whose history is the bus's, and of which the node has the newest
//! part, to serve its subscribers from.
//!
//! The bus tells each message once, and may lose what it tells. So a message that is not
//! the next one says that the bus has to be asked, and what it then has is installed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Channel, Entry, State};
use crate::config::Config;
use crate::protocol::{self, Since};

/// How long a node follows a channel that nobody is subscribed to.
const IDLE: Duration = Duration::from_secs(10);

/// What became of a message that a bus has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It was the next.
    New,
    /// It is there already.
    Twice,
    /// Others come before it, which the node has not seen.
    Early,
    /// It is of another history.
    Foreign,
}

/// The newest part of a history, as the bus has it.
#[derive(Debug)]
pub struct Snapshot {
    /// Which history.
    pub epoch: Arc<str>,
    /// The offset of its newest message.
    pub last: u64,
    /// Offset, age, data; without a gap, the oldest first.
    pub messages: Vec<(u64, Duration, String)>,
}

/// How a mirror gets what is new.
#[derive(Default)]
pub struct Link {
    /// Whether the bus was told that the node wants the channel.
    pub wanted: bool,
    /// The connection by which it came up to date; 0: none.
    pub connection: u64,
}

impl Channel {
    /// Adds a message that has its place.
    pub fn append(&self, config: &Config, epoch: &str, offset: u64, data: &str) -> Appended {
        let mut state = self.lock();
        if *state.epoch != *epoch {
            return Appended::Foreign;
        }
        if offset <= state.last {
            return Appended::Twice;
        }
        if offset > state.last + 1 {
            return Appended::Early;
        }
        self.put(&mut state, config, offset, Instant::now(), data);
        self.trim(&mut state, config);
        state.wake_all();
        Appended::New
    }

    /// Takes what the bus has. Whether it was news.
    pub fn install(&self, config: &Config, snapshot: &Snapshot) -> bool {
        let mut state = self.lock();
        if state.epoch == snapshot.epoch && snapshot.last <= state.last {
            return false;
        }
        if state.epoch != snapshot.epoch {
            self.forget_all(&mut state);
            state.epoch = snapshot.epoch.clone();
            state.histories += 1;
            state.last = snapshot.messages.first().map_or(0, |first| first.0 - 1);
        }
        let now = Instant::now();
        for (offset, age, data) in &snapshot.messages {
            if *offset <= state.last {
                continue;
            }
            if *offset > state.last + 1 {
                // The bus has forgotten what lies between.
                self.forget_all(&mut state);
            }
            let at = now.checked_sub(*age).unwrap_or(now);
            self.put(&mut state, config, *offset, at, data);
        }
        if state.last < snapshot.last {
            self.forget_all(&mut state);
            state.last = snapshot.last;
        }
        self.trim(&mut state, config);
        state.wake_all();
        true
    }

    /// Unlike a message of a client this one can't be refused: where there is no room, the
    /// channel's other messages go, or only its number is kept, and subscribers are told
    /// what they miss.
    fn put(&self, state: &mut State, config: &Config, offset: u64, at: Instant, data: &str) {
        let entry = Entry {
            text: protocol::message(&self.name, offset, data).into(),
            key: None,
            at,
        };
        let is_full = || self.memory.load(Ordering::Relaxed) + entry.bytes() > config.memory;
        if is_full() {
            self.forget_all(state);
        }
        if is_full() {
            state.last = offset;
        } else {
            self.add(state, offset, entry);
        }
    }

    fn forget_all(&self, state: &mut State) {
        while !state.entries.is_empty() {
            self.forget_first(state);
        }
    }

    /// Its epoch and its newest message.
    pub fn place(&self) -> (Arc<str>, u64) {
        let state = self.lock();
        (state.epoch.clone(), state.last)
    }

    /// Whether somebody has seen more of it, or something else.
    pub fn is_behind(&self, since: &Since) -> bool {
        let (epoch, last) = self.place();
        *epoch != *since.epoch || last < since.offset
    }

    /// Whether it need not be followed any more.
    pub fn is_idle_mirror(&self, config: &Config) -> bool {
        let mut state = self.lock();
        self.trim(&mut state, config);
        state.subscribers.is_empty() && state.touched.elapsed() >= IDLE
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::channel::Next;
    use crate::channel::tests::{channel, config, offsets, subscribe};

    fn snapshot(epoch: &str, offsets: std::ops::RangeInclusive<u64>) -> Snapshot {
        Snapshot {
            epoch: epoch.into(),
            last: *offsets.end(),
            messages: offsets
                .map(|offset| (offset, Duration::ZERO, offset.to_string()))
                .collect(),
        }
    }

    #[test]
    fn only_the_next_message_is_taken() {
        let (config, channel) = (Config::default(), channel());
        assert!(channel.install(&config, &snapshot("e", 3..=4)));
        let (_news, one, start) = subscribe(&channel, None);
        assert_eq!((&*start.epoch, start.offset), ("e", 4));
        let append = |epoch, offset| channel.append(&config, epoch, offset, "1");
        assert_eq!(append("e", 4), Appended::Twice);
        assert_eq!(append("e", 6), Appended::Early);
        assert_eq!(append("other", 5), Appended::Foreign);
        assert_eq!(append("e", 5), Appended::New);
        assert_eq!(offsets(&one), [5]);
        assert!(!channel.install(&config, &snapshot("e", 3..=5)));
        assert!(channel.install(&config, &snapshot("e", 4..=8)));
        assert_eq!(offsets(&one), [6, 7, 8]);
    }

    #[test]
    fn what_the_bus_has_forgotten_was_missed() {
        let (config, channel) = (Config::default(), channel());
        channel.install(&config, &snapshot("e", 1..=2));
        let (_news, one, _) = subscribe(&channel, None);
        channel.install(&config, &snapshot("e", 6..=7));
        let missed = Next::Missed {
            missed: 3,
            offset: 5,
        };
        assert_eq!(one.next(), missed);
        assert_eq!(offsets(&one), [6, 7]);
        let nothing_left = Snapshot {
            messages: Vec::new(),
            ..snapshot("e", 9..=9)
        };
        channel.install(&config, &nothing_left);
        let missed = Next::Missed {
            missed: 2,
            offset: 9,
        };
        assert_eq!(one.next(), missed);
        assert_eq!(one.next(), Next::Nothing);
    }

    #[test]
    fn another_history_is_said_to_be_one() {
        let (config, channel) = (Config::default(), channel());
        channel.install(&config, &snapshot("e", 1..=9));
        let (news, one, _) = subscribe(&channel, None);
        channel.install(&config, &snapshot("f", 4..=5));
        assert_eq!(news.len(), 1);
        let reset = Next::Another {
            epoch: "f".into(),
            offset: 3,
        };
        assert_eq!(one.next(), reset);
        assert_eq!(offsets(&one), [4, 5]);
        let seen = |epoch: &str, offset| Since {
            epoch: epoch.into(),
            offset,
        };
        assert!(channel.is_behind(&seen("e", 5)) && channel.is_behind(&seen("f", 6)));
        assert!(!channel.is_behind(&seen("f", 5)));
    }

    #[test]
    fn without_room_messages_go_and_not_the_count() {
        let memory = Arc::new(AtomicUsize::new(0));
        let channel = Arc::new(Channel::new("c", memory.clone()));
        let small = config("memory = 600");
        channel.install(&small, &snapshot("e", 1..=1));
        let (_news, one, _) = subscribe(&channel, None);
        for offset in 2..=10 {
            assert_eq!(channel.append(&small, "e", offset, "1"), Appended::New);
            assert!(memory.load(Ordering::Relaxed) <= 600);
        }
        assert!(matches!(one.next(), Next::Missed { .. }));
        assert_eq!(offsets(&one).last(), Some(&10));
        memory.fetch_add(600, Ordering::Relaxed);
        assert_eq!(channel.append(&small, "e", 11, "1"), Appended::New);
        let missed = Next::Missed {
            missed: 1,
            offset: 11,
        };
        assert_eq!(one.next(), missed);
    }
}
