//! Messages between a client and its node: JSON, one object a frame.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The longest name of a channel, and of a client, in bytes.
pub const LONGEST_NAME: usize = 128;

/// What a client asks. `id` comes back in the answer.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Fields")]
pub enum Request {
    /// Messages of the channel from now on; with `since`, those after it first.
    Subscribe {
        /// Comes back in the answer.
        id: u64,
        /// Its name.
        channel: String,
        /// The last message that the client has seen.
        since: Option<Since>,
    },
    /// No more messages of the channel.
    Unsubscribe {
        /// Comes back in the answer.
        id: u64,
        /// Its name.
        channel: String,
    },
    /// A message for all subscribers.
    Publish {
        /// Comes back in the answer.
        id: u64,
        /// Its name.
        channel: String,
        /// Any JSON.
        data: Box<RawValue>,
        /// Names the message: one that is published again, since the answer was lost, is
        /// the same message.
        key: Option<String>,
    },
    /// Who is subscribed.
    Presence {
        /// Comes back in the answer.
        id: u64,
        /// Its name.
        channel: String,
    },
    /// Messages that were published, the oldest first.
    History {
        /// Comes back in the answer.
        id: u64,
        /// Its name.
        channel: String,
        /// Those after this offset.
        after: u64,
        /// At most so many, the newest.
        limit: Option<usize>,
    },
    /// Is there anybody?
    Ping {
        /// Comes back in the answer.
        id: u64,
    },
}

/// A request as it is written. (serde's tagged enums can't have a `RawValue`.)
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    r#type: Kind,
    id: u64,
    channel: Option<String>,
    since: Option<Since>,
    data: Option<Box<RawValue>>,
    key: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Subscribe,
    Unsubscribe,
    Publish,
    Presence,
    History,
    Ping,
}

impl TryFrom<Fields> for Request {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let id = fields.id;
        let channel = fields.channel.ok_or("there is no channel");
        Ok(match fields.r#type {
            Kind::Subscribe => Self::Subscribe {
                id,
                channel: channel?,
                since: fields.since,
            },
            Kind::Unsubscribe => Self::Unsubscribe {
                id,
                channel: channel?,
            },
            Kind::Publish => Self::Publish {
                id,
                channel: channel?,
                data: fields.data.ok_or("there is no data")?,
                key: fields.key,
            },
            Kind::Presence => Self::Presence {
                id,
                channel: channel?,
            },
            Kind::History => Self::History {
                id,
                channel: channel?,
                after: fields.after.unwrap_or(0),
                limit: fields.limit,
            },
            Kind::Ping => Self::Ping { id },
        })
    }
}

/// A place in a channel's history.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Since {
    /// Which history: offsets of another one mean nothing.
    pub epoch: String,
    /// Messages up to this one.
    pub offset: u64,
}

/// A subscriber.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Member {
    /// The connection.
    pub client: Box<str>,
    /// What it calls itself.
    pub name: Box<str>,
}

/// What a node says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Answer<'a> {
    /// The first message of a connection.
    Hello {
        /// The node's name.
        node: &'a str,
        /// The connection's.
        client: &'a str,
        /// Silence after which the node pings.
        heartbeat_ms: u64,
    },
    /// A subscription holds.
    Subscribed {
        /// Of the request.
        id: u64,
        /// Its name.
        channel: &'a str,
        /// Which history.
        epoch: &'a str,
        /// Messages after this one follow.
        offset: u64,
        /// Whether nothing was missed since what the request named.
        recovered: bool,
    },
    /// A subscription has ended.
    Unsubscribed {
        /// Of the request.
        id: u64,
        /// Its name.
        channel: &'a str,
    },
    /// The message is in the history.
    Published {
        /// Of the request.
        id: u64,
        /// Its name.
        channel: &'a str,
        /// Which history.
        epoch: &'a str,
        /// Its place.
        offset: u64,
    },
    /// Who is subscribed.
    Presence {
        /// Of the request.
        id: u64,
        /// Its name.
        channel: &'a str,
        /// The subscribers.
        members: &'a [Member],
    },
    /// What was published.
    History {
        /// Of the request.
        id: u64,
        /// Its name.
        channel: &'a str,
        /// Which history.
        epoch: &'a str,
        /// The newest message's place.
        offset: u64,
        /// Messages, as subscribers get them.
        messages: Vec<&'a RawValue>,
    },
    /// There is.
    Pong {
        /// Of the request.
        id: u64,
    },
    /// The client was too slow, and messages are gone.
    Lag {
        /// Its name.
        channel: &'a str,
        /// How many.
        missed: u64,
        /// Messages after this one follow.
        offset: u64,
    },
    /// The channel has another history, since the bus has lost something of the one
    /// before, or may have.
    Reset {
        /// Its name.
        channel: &'a str,
        /// Which history.
        epoch: &'a str,
        /// Messages after this one follow.
        offset: u64,
    },
    /// A request was refused.
    Error {
        /// Of the request, if it could be read.
        id: Option<u64>,
        /// A word for programs.
        code: &'a str,
        /// A sentence for people.
        reason: &'a str,
    },
    /// The node ends. A close frame follows.
    Goodbye {
        /// When to come back, to whatever node is there.
        reconnect_ms: u64,
    },
}

impl Answer<'_> {
    /// As it is sent.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers become JSON")
    }
}

/// A message as subscribers get it.
pub fn message(channel: &str, offset: u64, data: &str) -> String {
    let channel = serde_json::to_string(channel).expect("a string becomes JSON");
    format!(r#"{{"type":"message","channel":{channel},"offset":{offset},"data":{data}}}"#)
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub reason: String,
}

impl Refusal {
    /// With a code of: `malformed`, `limit`, `bus`.
    pub fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

/// Refuses names that are empty or too long.
pub fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        let reason = format!(
            "{what} has {} bytes; 1 to {LONGEST_NAME} may be",
            name.len()
        );
        return Err(Refusal::new("limit", reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let text = r#"{"type":"publish","id":3,"channel":"c","data":{"a": [1]},"key":"k"}"#;
        let Request::Publish { id, data, key, .. } = serde_json::from_str(text).unwrap() else {
            panic!("not what was sent");
        };
        assert_eq!(
            (id, data.get(), key.as_deref()),
            (3, r#"{"a": [1]}"#, Some("k"))
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "{}",
            "7",
            r#"{"type":"ping"}"#,
            r#"{"type":"ping","id":1,"more":2}"#,
            r#"{"type":"subscribe","id":1}"#,
            r#"{"type":"publish","id":1,"channel":"c"}"#,
        ] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_message_is_json_whatever_its_channel_is_called() {
        let text = message("a\"b", 7, "[1]");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["channel"], "a\"b");
        assert_eq!(value["data"][0], 1);
    }
}
