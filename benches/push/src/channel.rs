//! Channels: bounded histories, and subscribers with a cursor in them, as in
//! `examples/push`, with tokio's channels to tell connections of news.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use slab::Slab;
use tokio::sync::mpsc::UnboundedSender;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::protocol::{Since, message};

/// As the settings of `examples/push` have it.
const HISTORY_MESSAGES: usize = 256;
const HISTORY_BYTES: usize = 1 << 20;
const ENTRY: usize = 128;
const SHARDS: usize = 16;

#[derive(Default)]
pub struct Channels {
    shards: [Mutex<HashMap<Box<str>, Arc<Channel>>>; SHARDS],
    hash: RandomState,
}

impl Channels {
    pub fn open(&self, name: &str) -> Arc<Channel> {
        let number = self.hash.hash_one(name) as usize % SHARDS;
        let mut shard = lock(&self.shards[number]);
        if let Some(channel) = shard.get(name) {
            return channel.clone();
        }
        let channel = Arc::new(Channel::new(name));
        shard.insert(name.into(), channel.clone());
        channel
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Channel {
    pub name: Box<str>,
    pub epoch: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    keys: HashMap<Arc<str>, u64>,
    subscribers: Slab<Arc<Subscription>>,
}

struct Entry {
    text: Utf8Bytes,
    key: Option<Arc<str>>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.text.len() + self.key.as_ref().map_or(0, |key| key.len()) + ENTRY
    }
}

pub struct Subscription {
    pub channel: Arc<Channel>,
    cursor: AtomicU64,
    queued: AtomicBool,
    ready: UnboundedSender<Arc<Subscription>>,
    slot: AtomicUsize,
}

pub enum Next {
    Message(Utf8Bytes),
    Missed { missed: u64, offset: u64 },
    Nothing,
}

impl Channel {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            epoch: format!("{:016x}", RandomState::new().hash_one(Instant::now())),
            state: Mutex::default(),
        }
    }

    pub fn publish(&self, key: Option<&str>, data: &str) -> u64 {
        let mut state = lock(&self.state);
        if let Some(&offset) = key.and_then(|key| state.keys.get(key)) {
            return offset;
        }
        let offset = state.last + 1;
        let entry = Entry {
            text: message(&self.name, offset, data).into(),
            key: key.map(Into::into),
        };
        state.last = offset;
        state.bytes += entry.bytes();
        if let Some(key) = &entry.key {
            state.keys.insert(key.clone(), offset);
        }
        state.entries.push_back(entry);
        state.trim();
        for (_, subscription) in &state.subscribers {
            subscription.wake();
        }
        offset
    }

    /// The subscription, where it begins, and whether nothing was missed.
    pub fn subscribe(
        self: &Arc<Self>,
        ready: UnboundedSender<Arc<Subscription>>,
        since: Option<&Since>,
    ) -> (Arc<Subscription>, u64, bool) {
        let mut state = lock(&self.state);
        let (offset, recovered) = match since {
            None => (state.last, false),
            Some(since) if since.epoch == self.epoch && since.offset <= state.last => {
                (since.offset, since.offset + 1 >= state.first())
            }
            Some(_) => (state.first() - 1, false),
        };
        let subscription = Arc::new(Subscription {
            channel: self.clone(),
            cursor: AtomicU64::new(offset),
            queued: AtomicBool::new(false),
            ready,
            slot: AtomicUsize::new(0),
        });
        let slot = state.subscribers.insert(subscription.clone());
        subscription.slot.store(slot, Ordering::Relaxed);
        if offset < state.last {
            subscription.wake();
        }
        (subscription, offset, recovered)
    }
}

impl State {
    fn first(&self) -> u64 {
        self.last + 1 - self.entries.len() as u64
    }

    fn trim(&mut self) {
        while self.entries.len() > HISTORY_MESSAGES
            || (self.bytes > HISTORY_BYTES && self.entries.len() > 1)
        {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= entry.bytes();
            if let Some(key) = entry.key {
                self.keys.remove(&key);
            }
        }
    }
}

impl Subscription {
    pub fn wake(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            // If the connection has ended nobody needs it.
            let _ = self.ready.send(self.clone());
        }
    }

    pub fn taken(&self) {
        self.queued.store(false, Ordering::Release);
    }

    pub fn next(&self) -> Next {
        let state = lock(&self.channel.state);
        let cursor = self.cursor.load(Ordering::Relaxed);
        if cursor >= state.last {
            return Next::Nothing;
        }
        let first = state.first();
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

    pub fn end(&self) {
        let mut state = lock(&self.channel.state);
        self.cursor.store(u64::MAX, Ordering::Relaxed);
        let slot = self.slot.load(Ordering::Relaxed);
        drop(state.subscribers.try_remove(slot));
    }
}
