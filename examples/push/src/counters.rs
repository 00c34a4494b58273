//! What the service counts, as Prometheus reads it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:literal;)*) => {
        /// Numbers since the start, or of this moment.
        #[derive(Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Counter,)*
        }

        impl Counters {
            /// All of them.
            pub fn prometheus(&self) -> String {
                let mut text = String::new();
                $(
                    let name = stringify!($name);
                    // A string takes all.
                    let _ = writeln!(text, "# HELP push_{name} {}", concat!($($doc),+).trim());
                    let _ = writeln!(text, "# TYPE push_{name} {}", $kind);
                    let _ = writeln!(text, "push_{name} {}", self.$name.get());
                )*
                text
            }
        }
    };
}

/// One number.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// So many more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// So many less.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Connections that are open, WebSockets or not.
    connections: "gauge";
    /// WebSockets that are open.
    sockets: "gauge";
    /// Connections that were accepted.
    accepted: "counter";
    /// Connections that were refused because there were too many.
    refused_full: "counter";
    /// Connections that ended before they had said what they want, in time and in form.
    bad_handshakes: "counter";
    /// Messages of clients.
    requests: "counter";
    /// Requests that were refused.
    refused_requests: "counter";
    /// Messages that were published here.
    published: "counter";
    /// Requests that the bus did not answer.
    bus_refused: "counter";
    /// Times that the node began to hear of what others publish.
    bus_links: "counter";
    /// Subscribers that were told of another history.
    resets: "counter";
    /// Messages that were sent to subscribers.
    deliveries: "counter";
    /// Messages that subscribers missed because they were slow.
    missed: "counter";
    /// WebSockets closed because messages or frames were malformed.
    closed_malformed: "counter";
    /// WebSockets closed because of too many messages, or too long ones.
    closed_limit: "counter";
    /// WebSockets closed because they were slow.
    closed_slow: "counter";
    /// WebSockets closed because nothing was heard of them.
    closed_silent: "counter";
    /// WebSockets that were told to connect elsewhere.
    goodbyes: "counter";
    /// Times that settings were read again.
    reloads: "counter";
}
