//! What Redis does at one stroke, as scripts; and what it has of a channel.
//!
//! | key | what |
//! |---|---|
//! | `push:{c}:m` | the epoch, the last offset, the bytes of the messages, and of which run of the server the last writer knew, and whether that run syncs what it answers |
//! | `push:{c}:s` | the messages: a stream, the offset is the entry's number |
//! | `push:{c}:k` | the offsets by the publishers' keys |
//! | `push:{c}:p` | who is subscribed, each until a time |
//!
//! A message is told to the nodes as `push:c`, by the same script that adds it.

use std::time::Duration;

use redis::{Cmd, Connection, ErrorKind, RedisError, RedisResult, Value, cmd};

use crate::channel::{Snapshot, new_epoch};
use crate::config::Config;
use crate::protocol::Member;

/// What a channel's keys outlive its last message by.
const MARGIN: Duration = Duration::from_secs(60);
/// What the channel's subject begins with, for the nodes that listen.
const SUBJECT: &str = "push:";

/// Finds the channel's history, or begins one. A run of the server that may not have all
/// that the run before has answered gives the history another name.
const BEGIN: &str = r"
local max, max_bytes, keep = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local m = redis.call('HMGET', KEYS[1], 'epoch', 'last', 'bytes', 'run', 'synced')
local epoch, last, bytes = m[1], tonumber(m[2] or 0), tonumber(m[3] or 0)
if not epoch then
    redis.call('DEL', KEYS[2], KEYS[3])
    epoch, last, bytes = ARGV[1], 0, 0
elseif m[4] ~= ARGV[2] and m[5] ~= '1' then
    epoch = ARGV[1]
end
local function trim()
    while true do
        local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
        if not first then
            bytes = 0
            return
        end
        local f = first[2]
        local length = redis.call('XLEN', KEYS[2])
        if now - tonumber(f[4]) <= keep and length <= max
            and (bytes <= max_bytes or length <= 1) then
            return
        end
        redis.call('XDEL', KEYS[2], first[1])
        if f[2] ~= '' then redis.call('HDEL', KEYS[3], f[2]) end
        bytes = bytes - #f[2] - #f[6] - 128
    end
end
local function save()
    trim()
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'last', last, 'bytes', bytes,
        'run', ARGV[2], 'synced', ARGV[3])
    for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], keep + MARGIN) end
end
";

/// `subject key data`, no subject if the nodes are told otherwise. Returns the message's
/// place.
const PUBLISH: &str = r"
local key, data = ARGV[8], ARGV[9]
local offset = key ~= '' and tonumber(redis.call('HGET', KEYS[3], key) or 0) or 0
if offset == 0 then
    offset = last + 1
    redis.call('XADD', KEYS[2], offset .. '-0', 'k', key, 't', now, 'd', data)
    if key ~= '' then redis.call('HSET', KEYS[3], key, offset) end
    last = offset
    bytes = bytes + #key + #data + 128
    if ARGV[7] ~= '' then
        redis.call('PUBLISH', ARGV[7], epoch .. ' ' .. offset .. ' ' .. data)
    end
end
save()
return {epoch, offset}
";

/// `epoch after limit`. Returns the last place, and the newest `limit` messages, those
/// after `after` if they are of that epoch: offset, age, data.
const FETCH: &str = r"
save()
local after = ARGV[7] == epoch and tonumber(ARGV[8]) or 0
local found = redis.call('XREVRANGE', KEYS[2], '+', (after + 1) .. '-0', 'COUNT', ARGV[9])
local all = {epoch, last}
for i = #found, 1, -1 do
    local f = found[i][2]
    all[#all + 1] = tonumber(string.match(found[i][1], '^%d+'))
    all[#all + 1] = now - tonumber(f[4])
    all[#all + 1] = f[6]
end
return all
";

/// `time-to-live member...`: they are subscribed. Returns the last place.
const ENTER: &str = r"
save()
for i = 8, #ARGV do redis.call('ZADD', KEYS[4], now + tonumber(ARGV[7]), ARGV[i]) end
redis.call('PEXPIRE', KEYS[4], ARGV[7])
return {epoch, last}
";

/// Returns who is subscribed.
const MEMBERS: &str = r"
local time = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', '(' .. time[1] * 1000)
return redis.call('ZRANGE', KEYS[4], 0, -1)
";

/// One of them.
#[derive(Clone, Copy)]
pub enum Script {
    /// Adds a message.
    Publish,
    /// Reads messages.
    Fetch,
    /// Says who is subscribed.
    Enter,
    /// Asks who is.
    Members,
}

/// What a connection knows of its server.
pub struct Server {
    /// A name for what it has been since it started.
    run: String,
    /// Whether what it answers is on its disk.
    synced: bool,
    /// By `Script as usize`.
    hashes: [String; 4],
}

impl Server {
    /// Asks, and tells it the scripts.
    pub fn ask(connection: &mut Connection) -> RedisResult<Self> {
        let info: String = cmd("INFO").arg("server").query(connection)?;
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        let run = run.ok_or(RedisError::from((ErrorKind::Client, "INFO has no run_id")))?;
        // Who may not ask has to expect the worst.
        let mut is = |name: &str, what: &str| {
            let found = cmd("CONFIG").arg("GET").arg(name).query(connection);
            found.is_ok_and(|(_, value): (String, String)| value == what)
        };
        let synced = is("appendonly", "yes") && is("appendfsync", "always");
        let margin = MARGIN.as_millis().to_string();
        let begin = BEGIN.replace("MARGIN", &margin);
        let mut load = |text: String| -> RedisResult<String> {
            cmd("SCRIPT").arg("LOAD").arg(text).query(connection)
        };
        let hashes = [
            load(format!("{begin}{PUBLISH}"))?,
            load(format!("{begin}{FETCH}"))?,
            load(format!("{begin}{ENTER}"))?,
            load(MEMBERS.to_owned())?,
        ];
        Ok(Self {
            run: run.trim().to_owned(),
            synced,
            hashes,
        })
    }

    /// A script for a channel, without its own arguments.
    pub fn call(&self, script: Script, config: &Config, channel: &str) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.hashes[script as usize]).arg(4);
        for kind in ["m", "s", "k", "p"] {
            call.arg(format!("push:{{{channel}}}:{kind}"));
        }
        if !matches!(script, Script::Members) {
            call.arg(&*new_epoch())
                .arg(&self.run)
                .arg(u8::from(self.synced))
                .arg(config.history_messages)
                .arg(config.history_bytes)
                .arg(config.history_seconds * 1000);
        }
        call
    }
}

/// Nobody is here any more.
pub fn leave(channel: &str, member: &Member) -> Cmd {
    let mut call = cmd("ZREM");
    call.arg(format!("push:{{{channel}}}:p")).arg(text(member));
    call
}

/// A subscriber as Redis has it.
pub fn text(member: &Member) -> String {
    serde_json::to_string(member).expect("strings become JSON")
}

/// How nodes hear of a channel.
pub fn subject(channel: &str) -> String {
    format!("{SUBJECT}{channel}")
}

/// Whose that is.
pub fn channel(subject: &str) -> Option<&str> {
    subject.strip_prefix(SUBJECT)
}

/// What the nodes are told.
pub fn tell(epoch: &str, offset: u64, data: &str) -> String {
    format!("{epoch} {offset} {data}")
}

/// What [`PUBLISH`] or [`tell`] tells the nodes: epoch, offset, data.
pub fn told(payload: &str) -> Option<(&str, u64, &str)> {
    let mut parts = payload.splitn(3, ' ');
    let (epoch, offset, data) = (parts.next()?, parts.next()?, parts.next()?);
    Some((epoch, offset.parse().ok()?, data))
}

/// An answer of a type.
pub fn read<T: redis::FromRedisValue>(value: Value) -> Result<T, String> {
    redis::from_redis_value(value).map_err(|why| why.to_string())
}

/// The answer of [`FETCH`].
pub fn snapshot(value: Value) -> Result<Snapshot, String> {
    let values: Vec<Value> = read(value)?;
    let mut values = values.into_iter();
    let mut next = || values.next().ok_or("an answer is too short".to_owned());
    let (epoch, last): (String, u64) = (read(next()?)?, read(next()?)?);
    let mut messages = Vec::new();
    while let Ok(offset) = next() {
        let age: u64 = read(next()?)?;
        messages.push((read(offset)?, Duration::from_millis(age), read(next()?)?));
    }
    Ok(Snapshot {
        epoch: epoch.into(),
        last,
        messages,
    })
}
