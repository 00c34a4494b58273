//! The service: what all connections of a node share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;

use crate::bus::{self, Bus};
use crate::channel::new_epoch;
use crate::channels::Channels;
use crate::config::Config;
use crate::counters::Counters;
use crate::transport;

/// One node.
pub struct Service {
    /// Its name.
    pub node: String,
    /// What it holds.
    pub channels: Channels,
    /// Where messages go.
    pub bus: Box<dyn Bus>,
    /// What it counts.
    pub counters: Counters,
    config: RwLock<Arc<Config>>,
    /// Of the settings, apart: it is looked at with each message, by all workers.
    heartbeat_ms: AtomicU64,
    tls: RwLock<Option<Arc<ServerConfig>>>,
    clients: AtomicU64,
    draining: AtomicBool,
}

impl Service {
    /// A node with these settings.
    pub fn new(config: Config) -> Result<Self, String> {
        config.check()?;
        Ok(Self {
            node: match &*config.node {
                "" => new_epoch()[..8].to_owned(),
                name => name.to_owned(),
            },
            channels: Channels::default(),
            bus: bus::open(&config)?,
            counters: Counters::default(),
            tls: RwLock::new(transport::tls(&config)?),
            heartbeat_ms: AtomicU64::new(config.heartbeat_ms),
            config: RwLock::new(Arc::new(config)),
            clients: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        })
    }

    /// The settings of this moment.
    pub fn config(&self) -> Arc<Config> {
        let config = self.config.read();
        config.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Silence after which a client is pinged, as set at this moment.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.load(Ordering::Relaxed))
    }

    /// How connections are encrypted.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        let tls = self.tls.read();
        tls.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes other settings, all or none.
    pub fn reload(&self, config: Config) -> Result<(), String> {
        config.check()?;
        let fixed = self.config().fixed_changes(&config);
        if !fixed.is_empty() {
            return Err(format!("only a restart changes {}", fixed.join(", ")));
        }
        let tls = transport::tls(&config)?;
        if tls.is_some() != self.tls().is_some() {
            return Err("only a restart begins or ends TLS".into());
        }
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
        self.heartbeat_ms
            .store(config.heartbeat_ms, Ordering::Relaxed);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        self.counters.reloads.add(1);
        Ok(())
    }

    /// A name for a connection.
    pub fn new_client(&self) -> String {
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.node)
    }

    /// New clients had better go elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Forgets what is too old: messages, and channels that nobody needs.
    pub fn sweep(&self) {
        let config = self.config();
        let idle = self
            .channels
            .sweep(|channel| self.bus.is_idle(&config, channel));
        for channel in idle {
            self.bus.forget(&channel);
        }
    }

    /// Whether it takes new clients.
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }
}
