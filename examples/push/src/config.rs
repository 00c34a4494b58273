//! Settings: what can be set, by a file of `name = value` lines and by `--name value`.
//!
//! One table makes the fields, the names, the help and the list of what a reload may
//! change, so none of them can be forgotten.

use std::fmt;
use std::str::FromStr;

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $change:ident;)*) => {
        /// All settings, with their values.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $type,)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Config {
            /// Sets one by its name.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
                match name {
                    $(stringify!($name) => {
                        self.$name = value.parse().map_err(|why| format!("{name} = {value}: {why}"))?;
                    })*
                    _ => return Err(format!("there is no setting {name}")),
                }
                Ok(())
            }

            /// The names of those that differ and that only a restart can change.
            pub fn fixed_changes(&self, other: &Self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if settings!(@is_fixed $change) && self.$name != other.$name {
                    names.push(stringify!($name));
                })*
                names
            }

            /// A line for each: its name, what it is, its default.
            pub fn help() -> String {
                let mut text = String::new();
                let default = Self::default();
                $(
                    text += &format!(
                        "  --{:<18}{} [{}]\n",
                        stringify!($name),
                        concat!($($doc),+).trim(),
                        default.$name,
                    );
                )*
                text
            }
        }
    };
    (@is_fixed fixed) => { true };
    (@is_fixed live) => { false };
}

settings! {
    /// where clients connect: WebSockets at /ws, the page at /
    listen: String = "127.0.0.1:7780".into(), fixed;
    /// where /metrics, /dump and /health are
    admin: String = "127.0.0.1:7781".into(), fixed;
    /// the name of this node, of its own in a cluster; else one is made
    node: String = String::new(), fixed;
    /// embedded: this process is the whole service; or redis://HOST:PORT: all nodes with
    /// the same bus are one
    bus: String = "embedded".into(), fixed;
    /// how nodes with redis hear of messages: redis, or nats://HOST:PORT; all alike
    fanout: String = "redis".into(), fixed;
    /// how long the bus may take for an answer
    bus_ms: u64 = 3_000, fixed;
    /// how long the bus takes the clients of a node for present that says nothing
    presence_ms: u64 = 30_000, fixed;
    /// kernel threads; 0: one for each processor
    workers: usize = 0, fixed;
    /// own or shared: the stacks of connections
    stacks: Stacks = Stacks::Own, fixed;
    /// a file with the certificates (PEM): TLS instead of plain connections
    tls_cert: String = String::new(), live;
    /// a file with the certificate's key (PEM)
    tls_key: String = String::new(), live;
    /// connections at a time, those that are still shaking hands included
    connections: usize = 100_000, live;
    /// channels that this node holds at a time
    channels: usize = 100_000, live;
    /// channels that one client may subscribe to
    client_channels: usize = 128, live;
    /// the longest message of a client, in bytes
    frame: usize = 64 << 10, live;
    /// messages a second of one client, in the long run
    rate: u32 = 50, live;
    /// messages at once of one client
    burst: u32 = 200, live;
    /// how long a client may take for its first request
    handshake_ms: u64 = 5_000, live;
    /// how long a client may take no byte that is sent to it
    write_ms: u64 = 10_000, live;
    /// silence after which a client is pinged; after as much again it is closed
    heartbeat_ms: u64 = 25_000, live;
    /// lag or close: what becomes of a subscriber that the history has left behind
    slow: Slow = Slow::Lag, live;
    /// messages of one channel that are kept
    history_messages: usize = 256, live;
    /// their bytes, at most
    history_bytes: usize = 1 << 20, live;
    /// how long a message is kept
    history_seconds: u64 = 300, live;
    /// bytes of all channels' messages on this node, at most
    memory: usize = 256 << 20, live;
    /// how long connections may take to end after SIGTERM
    grace_ms: u64 = 10_000, fixed;
    /// clients that are sent away come back within this time
    reconnect_ms: u64 = 1_000, live;
}

/// Where a connection's frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stacks {
    /// On a stack of its own.
    Own,
    /// On one of a few that all share.
    Shared,
}

/// What becomes of a subscriber that misses messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// It is told how many it missed, and goes on.
    Lag,
    /// It is closed, and may come back and read the history.
    Close,
}

macro_rules! words {
    ($($type:ident { $($word:literal $variant:ident),* })*) => {$(
        impl FromStr for $type {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(["one of", $($word),*].join(" ")),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),* })
            }
        }
    )*};
}

words! {
    Stacks { "own" Own, "shared" Shared }
    Slow { "lag" Lag, "close" Close }
}

impl Config {
    /// Sets what the lines of a file say; `#` begins a comment.
    pub fn read(&mut self, text: &str) -> Result<(), String> {
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| format!("line {}: not `name = value`", number + 1))?;
            self.set(name.trim(), value.trim())
                .map_err(|why| format!("line {}: {why}", number + 1))?;
        }
        self.check()
    }

    /// Whether the values can be used together.
    pub fn check(&self) -> Result<(), String> {
        let positive: [(&str, u64); 15] = [
            ("connections", self.connections as u64),
            ("channels", self.channels as u64),
            ("client_channels", self.client_channels as u64),
            ("frame", self.frame as u64),
            ("rate", self.rate.into()),
            ("burst", self.burst.into()),
            ("handshake_ms", self.handshake_ms),
            ("write_ms", self.write_ms),
            ("heartbeat_ms", self.heartbeat_ms),
            ("history_messages", self.history_messages as u64),
            ("history_bytes", self.history_bytes as u64),
            ("memory", self.memory as u64),
            ("reconnect_ms", self.reconnect_ms),
            ("bus_ms", self.bus_ms),
            ("presence_ms", self.presence_ms),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0: nothing would work"));
        }
        if self.bus == "embedded" && self.fanout != "redis" {
            return Err("fanout is for nodes with bus = redis://HOST:PORT".into());
        }
        if self.tls_cert.is_empty() != self.tls_key.is_empty() {
            return Err("tls_cert and tls_key go together".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_sets_what_it_names() {
        let mut config = Config::default();
        let text = "# limits\nrate = 7  # a second\n\nslow=close\n";
        config.read(text).unwrap();
        assert_eq!((config.rate, config.slow), (7, Slow::Close));
        assert_eq!(config.burst, Config::default().burst);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let read = |text| Config::default().read(text).unwrap_err();
        assert_eq!(read("\nrat = 7"), "line 2: there is no setting rat");
        assert_eq!(read("rate"), "line 1: not `name = value`");
        assert!(read("rate = many").starts_with("line 1: rate = many: "));
        assert_eq!(
            read("slow = maybe"),
            "line 1: slow = maybe: one of lag close"
        );
        assert_eq!(read("rate = 0"), "rate is 0: nothing would work");
        assert_eq!(read("tls_key = k"), "tls_cert and tls_key go together");
    }

    #[test]
    fn a_reload_may_not_move_the_listener() {
        let old = Config::default();
        let mut new = old.clone();
        new.set("rate", "9").unwrap();
        assert!(old.fixed_changes(&new).is_empty());
        new.set("listen", "127.0.0.1:1").unwrap();
        assert_eq!(old.fixed_changes(&new), ["listen"]);
    }

    #[test]
    fn the_help_has_every_setting() {
        let help = Config::help();
        assert!(help.contains("--reconnect_ms"), "{help}");
        assert!(help.contains("own or shared"), "{help}");
    }
}
