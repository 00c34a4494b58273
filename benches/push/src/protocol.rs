//! Messages, as `examples/push` has them: those that a load needs.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub struct Request<'a> {
    pub r#type: Kind,
    pub id: u64,
    pub channel: Option<String>,
    pub since: Option<Since>,
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    pub key: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Subscribe,
    Publish,
    Ping,
}

#[derive(Deserialize)]
pub struct Since {
    pub epoch: String,
    pub offset: u64,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Answer<'a> {
    Hello {
        node: &'a str,
        client: &'a str,
        heartbeat_ms: u64,
    },
    Subscribed {
        id: u64,
        channel: &'a str,
        epoch: &'a str,
        offset: u64,
        recovered: bool,
    },
    Published {
        id: u64,
        channel: &'a str,
        epoch: &'a str,
        offset: u64,
    },
    Pong {
        id: u64,
    },
    Lag {
        channel: &'a str,
        missed: u64,
        offset: u64,
    },
    Error {
        id: Option<u64>,
        code: &'a str,
        reason: &'a str,
    },
}

impl Answer<'_> {
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers become JSON")
    }
}

/// A message as subscribers get it.
pub fn message(channel: &str, offset: u64, data: &str) -> String {
    let channel = serde_json::to_string(channel).expect("a string becomes JSON");
    format!(r#"{{"type":"message","channel":{channel},"offset":{offset},"data":{data}}}"#)
}
