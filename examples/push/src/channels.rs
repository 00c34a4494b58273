//! The channels that a node holds, by name: not more than its settings allow.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::channel::Channel;
use crate::config::Config;
use crate::protocol::Refusal;

/// Connections of all workers look up channels; a few maps keep them out of each
/// other's way.
const SHARDS: usize = 16;

type Shard = HashMap<Box<str>, Arc<Channel>>;

/// All channels of the node.
#[derive(Default)]
pub struct Channels {
    shards: [Mutex<Shard>; SHARDS],
    hash: RandomState,
    count: AtomicUsize,
    memory: Arc<AtomicUsize>,
}

impl Channels {
    fn shard(&self, name: &str) -> MutexGuard<'_, Shard> {
        let number = self.hash.hash_one(name) as usize % SHARDS;
        lock(&self.shards[number])
    }

    /// The channel, if the node holds it.
    pub fn find(&self, name: &str) -> Option<Arc<Channel>> {
        self.shard(name).get(name).cloned()
    }

    /// The channel, a new one if need be.
    pub fn open(&self, config: &Config, name: &str) -> Result<Arc<Channel>, Refusal> {
        let mut shard = self.shard(name);
        if let Some(channel) = shard.get(name) {
            return Ok(channel.clone());
        }
        if self.count.fetch_add(1, Ordering::Relaxed) >= config.channels {
            self.count.fetch_sub(1, Ordering::Relaxed);
            let reason = format!("the node holds {} channels, its most", config.channels);
            return Err(Refusal::new("limit", reason));
        }
        let channel = Arc::new(Channel::new(name, self.memory.clone()));
        shard.insert(name.into(), channel.clone());
        Ok(channel)
    }

    /// Forgets channels that nobody needs, by `is_idle`, and returns them.
    pub fn sweep(&self, is_idle: impl Fn(&Channel) -> bool) -> Vec<Arc<Channel>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut gone = Vec::new();
            lock(shard).retain(|_, channel| {
                let idle = is_idle(channel);
                // Whoever else has it is about to publish or to subscribe.
                let keep = !idle || Arc::strong_count(channel) > 1;
                if !keep {
                    gone.push(channel.clone());
                }
                keep
            });
            self.count.fetch_sub(gone.len(), Ordering::Relaxed);
            all.append(&mut gone);
        }
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all their messages.
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Channel>> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>())
            .collect()
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_holds_so_many_channels_and_no_more() {
        let mut config = Config::default();
        config.read("channels = 3\nhistory_seconds = 0").unwrap();
        let channels = Channels::default();
        let held: Vec<_> = ["a", "b", "c", "a"]
            .iter()
            .map(|name| channels.open(&config, name).unwrap())
            .collect();
        assert_eq!(channels.len(), 3);
        let refusal = channels.open(&config, "d").err().unwrap();
        assert_eq!(refusal.reason, "the node holds 3 channels, its most");
        assert_eq!((channels.len(), channels.all().len()), (3, 3));
        assert!(channels.sweep(|one| one.sweep(&config)).is_empty());
        assert_eq!(channels.len(), 3, "somebody has them");
        drop(held);
        assert_eq!(channels.sweep(|one| one.sweep(&config)).len(), 3);
        assert_eq!(channels.len(), 0);
        assert!(channels.find("a").is_none());
        assert!(channels.open(&config, "d").is_ok());
    }
}
