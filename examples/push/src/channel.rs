//! Channel: a bounded history, and the subscribers that read it.
//!
//! A subscriber has no queue of its own. It has a *cursor*, the offset of the last
//! message that it was sent, and reads on from there; so whoever is slow costs a number,
//! order is that of the history, and a message that comes twice is seen by its offset.
//! A subscriber whose cursor the history has left behind is told how many it missed.
//!
//! A new message wakes: it puts the subscription into its connection's queue of
//! those that have news, where each is once at most.
//!
//! Where a bus has the history, a channel is a [`mirror`] of it.

pub mod mirror;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crore::sync::channel::Sender;
use slab::Slab;
use tungstenite::Utf8Bytes;

pub use mirror::{Appended, Link, Snapshot};

use crate::config::Config;
use crate::protocol::{self, Member, Refusal, Since};

/// What a message costs besides its text: its entry, and what allocators add.
const ENTRY: usize = 128;
/// The cursor of a subscription that has ended.
const ENDED: u64 = u64::MAX;

/// One channel of this node.
pub struct Channel {
    /// As clients call it.
    pub name: Box<str>,
    /// How a bus keeps it up to date.
    pub link: crore::sync::Mutex<Link>,
    /// Whether the bus is to be asked about it.
    pub is_asked: AtomicBool,
    state: Mutex<State>,
    /// Bytes of all channels' messages.
    memory: Arc<AtomicUsize>,
}

struct State {
    epoch: Arc<str>,
    /// How many epochs there were before.
    histories: u64,
    /// The offset of the newest message; those in `entries` end there, without a gap.
    last: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Publishers' names of the messages in `entries`.
    keys: HashMap<Arc<str>, u64>,
    subscribers: Slab<Arc<Subscription>>,
    /// When somebody last published or unsubscribed.
    touched: Instant,
}

struct Entry {
    text: Utf8Bytes,
    key: Option<Arc<str>>,
    at: Instant,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.text.len() + self.key.as_ref().map_or(0, |key| key.len()) + ENTRY
    }
}

/// A client's interest in a channel.
pub struct Subscription {
    /// Of which.
    pub channel: Arc<Channel>,
    /// Whose.
    pub member: Arc<Member>,
    /// The last message that was sent; its connection's alone.
    cursor: AtomicU64,
    /// Of which of the channel's histories it is.
    history: AtomicU64,
    /// Whether it lies in the connection's queue.
    queued: AtomicBool,
    ready: Sender<Arc<Subscription>>,
    slot: AtomicUsize,
}

/// What a cursor finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A message; the cursor is at it now.
    Message(Utf8Bytes),
    /// The history begins later: so many are gone, and the cursor is at `offset`.
    Missed {
        /// How many.
        missed: u64,
        /// Where it goes on after.
        offset: u64,
    },
    /// The channel has another history now; the cursor is at its begin.
    Another {
        /// Which.
        epoch: Arc<str>,
        /// Where it goes on after.
        offset: u64,
    },
    /// It has all.
    Nothing,
}

/// Where a subscription begins.
#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    /// Which history.
    pub epoch: Arc<str>,
    /// Messages after this one follow.
    pub offset: u64,
    /// Whether nothing is missing.
    pub recovered: bool,
}

/// A name that no other history has.
pub fn new_epoch() -> Arc<str> {
    format!("{:016x}", RandomState::new().hash_one(Instant::now())).into()
}

impl Channel {
    /// One without messages.
    pub fn new(name: &str, memory: Arc<AtomicUsize>) -> Self {
        Self {
            name: name.into(),
            link: crore::sync::Mutex::default(),
            is_asked: AtomicBool::new(false),
            state: Mutex::new(State {
                epoch: new_epoch(),
                histories: 0,
                last: 0,
                entries: VecDeque::new(),
                bytes: 0,
                keys: HashMap::new(),
                subscribers: Slab::new(),
                touched: Instant::now(),
            }),
            memory,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the next message, unless it is there by its key. Returns its place.
    pub fn publish(
        &self,
        config: &Config,
        key: Option<&str>,
        data: &str,
    ) -> Result<(Arc<str>, u64), Refusal> {
        let mut state = self.lock();
        if let Some(&offset) = key.and_then(|key| state.keys.get(key)) {
            return Ok((state.epoch.clone(), offset));
        }
        let offset = state.last + 1;
        self.push(&mut state, config, offset, key, data)?;
        Ok((state.epoch.clone(), offset))
    }

    fn push(
        &self,
        state: &mut State,
        config: &Config,
        offset: u64,
        key: Option<&str>,
        data: &str,
    ) -> Result<(), Refusal> {
        let entry = Entry {
            text: protocol::message(&self.name, offset, data).into(),
            key: key.map(Into::into),
            at: Instant::now(),
        };
        let bytes = entry.bytes();
        if self.memory.load(Ordering::Relaxed) + bytes > config.memory {
            let reason = format!("the node's history is full: {} bytes", config.memory);
            return Err(Refusal::new("limit", reason));
        }
        state.touched = entry.at;
        self.add(state, offset, entry);
        self.trim(state, config);
        state.wake_all();
        Ok(())
    }

    fn add(&self, state: &mut State, offset: u64, entry: Entry) {
        self.memory.fetch_add(entry.bytes(), Ordering::Relaxed);
        state.bytes += entry.bytes();
        state.last = offset;
        if let Some(key) = &entry.key {
            state.keys.insert(key.clone(), offset);
        }
        state.entries.push_back(entry);
    }

    /// Forgets what is too much or too old, but the newest message only by its age.
    fn trim(&self, state: &mut State, config: &Config) {
        let oldest = Instant::now().checked_sub(Duration::from_secs(config.history_seconds));
        while let Some(first) = state.entries.front() {
            let old = oldest.is_some_and(|oldest| first.at < oldest);
            let full = state.entries.len() > config.history_messages
                || (state.bytes > config.history_bytes && state.entries.len() > 1);
            if !old && !full {
                break;
            }
            self.forget_first(state);
        }
    }

    fn forget_first(&self, state: &mut State) {
        let Some(entry) = state.entries.pop_front() else {
            return;
        };
        state.bytes -= entry.bytes();
        self.memory.fetch_sub(entry.bytes(), Ordering::Relaxed);
        if let Some(key) = entry.key {
            state.keys.remove(&key);
        }
    }

    /// Takes a subscriber, to begin after what it has seen.
    pub fn subscribe(
        self: &Arc<Self>,
        member: Arc<Member>,
        ready: Sender<Arc<Subscription>>,
        since: Option<&Since>,
    ) -> (Arc<Subscription>, Start) {
        let mut state = self.lock();
        let first = state.first();
        let (offset, recovered) = match since {
            None => (state.last, false),
            Some(since) if since.epoch == *state.epoch && since.offset <= state.last => {
                (since.offset, since.offset + 1 >= first)
            }
            // Another history: all of this one is new.
            Some(_) => (first - 1, false),
        };
        let subscription = Arc::new(Subscription {
            channel: self.clone(),
            member,
            cursor: AtomicU64::new(offset),
            history: AtomicU64::new(state.histories),
            queued: AtomicBool::new(false),
            ready,
            slot: AtomicUsize::new(0),
        });
        let slot = state.subscribers.insert(subscription.clone());
        subscription.slot.store(slot, Ordering::Relaxed);
        if offset < state.last {
            subscription.wake();
        }
        let start = Start {
            epoch: state.epoch.clone(),
            offset,
            recovered,
        };
        (subscription, start)
    }

    /// The subscribers.
    pub fn members(&self) -> Vec<Member> {
        let state = self.lock();
        state
            .subscribers
            .iter()
            .map(|(_, subscription)| Member::clone(&subscription.member))
            .collect()
    }

    /// Messages after `after`, the newest `limit` of them, with the epoch and the newest
    /// offset.
    pub fn history(&self, after: u64, limit: usize) -> (Arc<str>, u64, Vec<Utf8Bytes>) {
        let state = self.lock();
        let skip = (after + 1).saturating_sub(state.first()) as usize;
        let skip = skip.max(state.entries.len().saturating_sub(limit));
        let texts = state.entries.iter().skip(skip);
        let texts = texts.map(|entry| entry.text.clone()).collect();
        (state.epoch.clone(), state.last, texts)
    }

    /// Forgets what is too old. Whether nobody needs the channel any more.
    pub fn sweep(&self, config: &Config) -> bool {
        let mut state = self.lock();
        self.trim(&mut state, config);
        state.subscribers.is_empty()
            && state.entries.is_empty()
            && state.touched.elapsed() >= Duration::from_secs(config.history_seconds)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.memory.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl State {
    /// The offset of the oldest message, or where the next one will be.
    fn first(&self) -> u64 {
        self.last + 1 - self.entries.len() as u64
    }

    fn wake_all(&self) {
        for (_, subscription) in &self.subscribers {
            subscription.wake();
        }
    }
}

impl Subscription {
    fn wake(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            // If the connection has ended nobody needs it.
            let _ = self.ready.try_send(self.clone());
        }
    }

    /// Before the connection reads on: what comes from now on wakes again.
    pub fn taken(&self) {
        self.queued.store(false, Ordering::Release);
    }

    /// Comes again, after the others that have news.
    pub fn again(self: &Arc<Self>) {
        self.wake();
    }

    /// What comes after the cursor, which moves on.
    pub fn next(&self) -> Next {
        let state = self.channel.lock();
        let cursor = self.cursor.load(Ordering::Relaxed);
        let first = state.first();
        if self.history.load(Ordering::Relaxed) != state.histories && cursor != ENDED {
            self.history.store(state.histories, Ordering::Relaxed);
            self.cursor.store(first - 1, Ordering::Relaxed);
            return Next::Another {
                epoch: state.epoch.clone(),
                offset: first - 1,
            };
        }
        if cursor >= state.last {
            return Next::Nothing;
        }
        if cursor + 1 < first {
            self.cursor.store(first - 1, Ordering::Relaxed);
            return Next::Missed {
                missed: first - 1 - cursor,
                offset: first - 1,
            };
        }
        self.cursor.store(cursor + 1, Ordering::Relaxed);
        Next::Message(state.entries[(cursor + 1 - first) as usize].text.clone())
    }

    /// No more messages.
    pub fn end(&self) {
        let mut state = self.channel.lock();
        // It may still lie in the connection's queue.
        self.cursor.store(ENDED, Ordering::Relaxed);
        let slot = self.slot.load(Ordering::Relaxed);
        state.touched = Instant::now();
        drop(state.subscribers.try_remove(slot));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crore::sync::channel::{Receiver, unbounded};

    pub fn config(lines: &str) -> Config {
        let mut config = Config::default();
        config.read(lines).unwrap();
        config
    }

    pub fn channel() -> Arc<Channel> {
        Arc::new(Channel::new("c", Arc::default()))
    }

    pub fn subscribe(
        channel: &Arc<Channel>,
        since: Option<&Since>,
    ) -> (Receiver<Arc<Subscription>>, Arc<Subscription>, Start) {
        let (ready, news) = unbounded();
        let (one, start) = channel.subscribe(Arc::new(member()), ready, since);
        (news, one, start)
    }

    fn member() -> Member {
        Member {
            client: "1".into(),
            name: "one".into(),
        }
    }

    pub fn offsets(one: &Subscription) -> Vec<u64> {
        let mut all = Vec::new();
        while let Next::Message(text) = one.next() {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            all.push(value["offset"].as_u64().unwrap());
        }
        all
    }

    #[test]
    fn subscribers_get_all_in_order_and_are_woken_once() {
        let (config, channel) = (Config::default(), channel());
        let (news, one, start) = subscribe(&channel, None);
        assert_eq!((start.offset, start.recovered), (0, false));
        for _ in 0..3 {
            channel.publish(&config, None, "1").unwrap();
        }
        assert_eq!(news.len(), 1);
        news.recv().unwrap().taken();
        assert_eq!(offsets(&one), [1, 2, 3]);
        channel.publish(&config, None, "1").unwrap();
        assert_eq!(news.len(), 1);
        one.end();
        channel.publish(&config, None, "1").unwrap();
        assert_eq!((news.len(), channel.members().len()), (1, 0));
    }

    #[test]
    fn who_was_away_reads_on_where_it_was() {
        let (config, channel) = (config("history_messages = 4"), channel());
        for _ in 0..6 {
            channel.publish(&config, None, "1").unwrap();
        }
        let epoch = subscribe(&channel, None).2.epoch.to_string();
        let since = |offset| Since {
            epoch: epoch.clone(),
            offset,
        };
        let (news, one, start) = subscribe(&channel, Some(&since(2)));
        assert_eq!((start.offset, start.recovered, news.len()), (2, true, 1));
        assert_eq!(offsets(&one), [3, 4, 5, 6]);
        // Message 2 is gone.
        let (_news, one, start) = subscribe(&channel, Some(&since(1)));
        assert!(!start.recovered);
        assert_eq!(
            one.next(),
            Next::Missed {
                missed: 1,
                offset: 2
            }
        );
        assert_eq!(offsets(&one), [3, 4, 5, 6]);
        // It has not come so far: that was another history.
        let (_news, one, start) = subscribe(&channel, Some(&since(7)));
        assert!(!start.recovered);
        assert_eq!(offsets(&one), [3, 4, 5, 6]);
        let other = Since {
            epoch: "other".into(),
            offset: 5,
        };
        let (_news, one, start) = subscribe(&channel, Some(&other));
        assert!(!start.recovered);
        assert_eq!(offsets(&one), [3, 4, 5, 6]);
    }

    #[test]
    fn a_message_is_there_once() {
        let (config, channel) = (Config::default(), channel());
        let (_, first) = channel.publish(&config, Some("k"), "1").unwrap();
        let (_, again) = channel.publish(&config, Some("k"), "1").unwrap();
        assert_eq!((first, again), (1, 1));
        assert_eq!(channel.history(0, 9).2.len(), 1);
    }

    #[test]
    fn the_history_is_bounded_and_pays_back() {
        let memory = Arc::new(AtomicUsize::new(0));
        let channel = Channel::new("c", memory.clone());
        let bound = config("history_bytes = 1000");
        for i in 0..100 {
            channel
                .publish(&bound, Some(&i.to_string()), "\"some text\"")
                .unwrap();
        }
        let (_, last, texts) = channel.history(0, 1000);
        assert_eq!(last, 100);
        assert!((2..10).contains(&texts.len()), "{}", texts.len());
        assert!(memory.load(Ordering::Relaxed) <= 1000);
        assert_eq!(channel.lock().keys.len(), texts.len());
        assert_eq!(channel.history(99, 1000).2.len(), 1);
        assert_eq!(channel.history(0, 2).2, texts[texts.len() - 2..]);
        let small = config("memory = 100");
        assert_eq!(
            channel.publish(&small, None, "1").unwrap_err().code,
            "limit"
        );
        drop(channel);
        assert_eq!(memory.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn old_messages_go_and_then_the_channel() {
        let (kept, old) = (Config::default(), config("history_seconds = 0"));
        let channel = channel();
        channel.publish(&kept, None, "1").unwrap();
        let (_news, one, _) = subscribe(&channel, None);
        assert!(!channel.sweep(&kept));
        assert!(!channel.sweep(&old), "it has a subscriber");
        assert!(channel.history(0, 9).2.is_empty());
        one.end();
        assert!(!channel.sweep(&kept), "somebody may come back");
        assert!(channel.sweep(&old));
    }
}
