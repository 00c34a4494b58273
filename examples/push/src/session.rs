//! Session: a WebSocket from its first message to its last, in one coroutine.
//!
//! It waits in one place (`Session::wait`) for its client, for news of its channels,
//! for its next heartbeat, and for the node's end. Only what it sends waits elsewhere:
//! while a client takes nothing, nothing is read from it.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crore::sync::channel::{self, Receiver, Sender};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::channel::{Next, Subscription};
use crate::config::Slow;
use crate::gateway::Permit;
use crate::protocol::{Answer, Member, Refusal, Request, check_name};
use crate::rate::Bucket;
use crate::service::Service;
use crate::transport::Transport;

/// Bytes that are read at once at first; a long message is read as it comes. Every idle
/// connection has so many.
const READ: usize = 256;
/// Bytes that are gathered before they are sent.
const WRITE: usize = 4 << 10;
/// Messages of one channel before the others have their turn.
const TURN: usize = 32;
/// How long a client may take to answer a close frame, or to take it.
const LINGER: Duration = Duration::from_secs(2);

/// A WebSocket and what it is subscribed to.
pub struct Session {
    socket: WebSocket<Transport>,
    service: Arc<Service>,
    member: Arc<Member>,
    subscriptions: Vec<Arc<Subscription>>,
    /// Those of them that have news.
    news: Receiver<Arc<Subscription>>,
    ready: Sender<Arc<Subscription>>,
    bucket: Bucket,
    /// When the last whole message came.
    heard: Instant,
    pinged: bool,
    _permit: Permit,
}

/// Why a session ends.
pub enum End {
    /// The client wanted it, or is gone.
    Left,
    /// The node ends.
    Goodbye,
    /// The client is to go, and is told why.
    Closed(CloseCode, String),
}

/// What there is to do.
enum Turn {
    Read,
    Deliver(Arc<Subscription>),
    Beat,
    Goodbye,
}

impl Session {
    /// After the handshake; `rest` is what came with it.
    pub fn new(
        mut transport: Transport,
        rest: Vec<u8>,
        service: Arc<Service>,
        name: String,
        permit: Permit,
    ) -> io::Result<Box<Self>> {
        let config = service.config();
        let write = Duration::from_millis(config.write_ms);
        transport.socket().set_write_timeout(Some(write))?;
        transport.socket().set_nodelay(true)?;
        transport.allow(0);
        let limits = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(WRITE)
            .max_write_buffer_size(WRITE + 2 * config.frame.max(config.history_bytes))
            .max_message_size(Some(config.frame))
            .max_frame_size(Some(config.frame));
        let client = service.new_client();
        let (ready, news) = channel::unbounded();
        let now = Instant::now();
        service.counters.sockets.add(1);
        Ok(Box::new(Self {
            socket: WebSocket::from_partially_read(transport, rest, Role::Server, Some(limits)),
            service,
            member: Arc::new(Member {
                client: client.into(),
                name: name.into(),
            }),
            // Most have one.
            subscriptions: Vec::with_capacity(1),
            news,
            ready,
            bucket: Bucket::new(config.burst, now),
            heard: now,
            pinged: false,
            _permit: permit,
        }))
    }

    /// Serves until one side ends it.
    pub fn run(&mut self) -> End {
        let mut done = self.begin();
        loop {
            if let Err(end) = done {
                return end;
            }
            done = match self.wait() {
                Turn::Read => self.read(1),
                Turn::Deliver(first) => self.deliver(first),
                Turn::Beat => self.beat(),
                Turn::Goodbye => Err(End::Goodbye),
            };
        }
    }

    fn begin(&mut self) -> Result<(), End> {
        self.say(&Answer::Hello {
            node: &self.service.node.clone(),
            client: &self.member.clone().client,
            heartbeat_ms: self.service.config().heartbeat_ms,
        })?;
        // What came with the handshake.
        self.read(0)
    }

    /// Few frames are below this one: on a shared stack each byte of them is kept for
    /// each idle connection.
    #[inline(never)]
    fn wait(&self) -> Turn {
        let due = self.due();
        crore::select! {
            readable(self.socket.get_ref().socket()) => Turn::Read,
            recv(self.news) -> one => one.map_or(Turn::Goodbye, Turn::Deliver),
            at(due) => Turn::Beat,
            cancelled() => Turn::Goodbye,
        }
    }

    fn due(&self) -> Instant {
        self.heard + self.service.heartbeat() * (1 + u32::from(self.pinged))
    }

    /// Reads the socket so many times, and does what the messages ask.
    #[inline(never)]
    fn read(&mut self, reads: u32) -> Result<(), End> {
        self.socket.get_mut().allow(reads);
        loop {
            match self.socket.read() {
                Ok(message) => self.take(message)?,
                Err(Error::Io(why)) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) => return Err(self.broken(why)),
            }
        }
        self.flush()
    }

    fn take(&mut self, message: Message) -> Result<(), End> {
        let now = Instant::now();
        self.heard = now;
        self.pinged = false;
        self.service.counters.requests.add(1);
        let config = self.service.config();
        if !self.bucket.take(config.rate, config.burst, now) {
            self.service.counters.closed_limit.add(1);
            let reason = format!("more than {} messages a second", config.rate);
            return Err(End::Closed(CloseCode::Policy, reason));
        }
        match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(request) => self.answer(request),
                Err(why) => self.refuse(None, &Refusal::new("malformed", why.to_string())),
            },
            Message::Binary(_) => {
                self.service.counters.closed_malformed.add(1);
                let reason = "messages are JSON, in text frames".into();
                Err(End::Closed(CloseCode::Unsupported, reason))
            }
            // tungstenite has answered.
            _ => Ok(()),
        }
    }

    fn answer(&mut self, request: Request) -> Result<(), End> {
        let (id, answered) = match request {
            Request::Ping { id } => return self.say(&Answer::Pong { id }),
            Request::Subscribe { id, channel, since } => {
                (id, self.subscribe(id, &channel, since.as_ref()))
            }
            Request::Unsubscribe { id, channel } => {
                let ended = self
                    .find(&channel)
                    .map(|i| self.subscriptions.swap_remove(i));
                if let Some(subscription) = ended {
                    subscription.end();
                    self.service.bus.leave(&channel, &self.member);
                }
                let channel = &channel;
                return self.say(&Answer::Unsubscribed { id, channel });
            }
            Request::Publish {
                id,
                channel,
                data,
                key,
            } => (id, self.publish(id, &channel, data.get(), key.as_deref())),
            Request::Presence { id, channel } => {
                let service = self.service.clone();
                let members = service.bus.members(&service, &channel);
                let said = members.map(|members| {
                    let (channel, members) = (&*channel, &*members);
                    self.say(&Answer::Presence {
                        id,
                        channel,
                        members,
                    })
                });
                (id, said)
            }
            Request::History {
                id,
                channel,
                after,
                limit,
            } => (id, self.history(id, &channel, after, limit)),
        };
        answered.unwrap_or_else(|refusal| self.refuse(Some(id), &refusal))
    }

    fn find(&self, channel: &str) -> Option<usize> {
        let mut all = self.subscriptions.iter();
        all.position(|one| *one.channel.name == *channel)
    }

    fn subscribe(
        &mut self,
        id: u64,
        name: &str,
        since: Option<&crate::protocol::Since>,
    ) -> Result<Result<(), End>, Refusal> {
        check_name("the channel's name", name)?;
        let config = self.service.config();
        if self.find(name).is_some() {
            let reason = format!("{name} is subscribed to already");
            return Err(Refusal::new("malformed", reason));
        }
        if self.subscriptions.len() >= config.client_channels {
            let most = config.client_channels;
            let reason = format!("a client may subscribe to {most} channels");
            return Err(Refusal::new("limit", reason));
        }
        let (service, member) = (&self.service, &self.member);
        let channel = service.bus.enter(service, name, member, since)?;
        let ready = self.ready.clone();
        let (subscription, start) = channel.subscribe(self.member.clone(), ready, since);
        self.subscriptions.push(subscription);
        Ok(self.say(&Answer::Subscribed {
            id,
            channel: name,
            epoch: &start.epoch,
            offset: start.offset,
            recovered: start.recovered,
        }))
    }

    fn publish(
        &mut self,
        id: u64,
        channel: &str,
        data: &str,
        key: Option<&str>,
    ) -> Result<Result<(), End>, Refusal> {
        check_name("the channel's name", channel)?;
        key.map_or(Ok(()), |key| check_name("the key", key))?;
        let service = self.service.clone();
        let place = service.bus.publish(&service, channel, key, data)?;
        service.counters.published.add(1);
        Ok(self.say(&Answer::Published {
            id,
            channel,
            epoch: &place.epoch,
            offset: place.offset,
        }))
    }

    fn history(
        &mut self,
        id: u64,
        channel: &str,
        after: u64,
        limit: Option<usize>,
    ) -> Result<Result<(), End>, Refusal> {
        check_name("the channel's name", channel)?;
        let service = self.service.clone();
        let most = service.config().history_messages;
        let limit = limit.unwrap_or(most).min(most);
        let page = service.bus.history(&service, channel, after, limit)?;
        let messages = page.texts.iter().map(|text| serde_json::from_str(text));
        let messages = messages.collect::<Result<_, _>>();
        Ok(self.say(&Answer::History {
            id,
            channel,
            epoch: &page.last.epoch,
            offset: page.last.offset,
            messages: messages.expect("messages are JSON"),
        }))
    }

    fn refuse(&mut self, id: Option<u64>, refusal: &Refusal) -> Result<(), End> {
        self.service.counters.refused_requests.add(1);
        if refusal.code == "bus" {
            self.service.counters.bus_refused.add(1);
        }
        self.say(&Answer::Error {
            id,
            code: refusal.code,
            reason: &refusal.reason,
        })
    }

    /// Sends what the subscriptions have that lie in the queue.
    #[inline(never)]
    fn deliver(&mut self, first: Arc<Subscription>) -> Result<(), End> {
        let mut sent = 0;
        let mut next = Some(first);
        // Those that come meanwhile may wait for the next turn, after the client.
        let mut turns = 1 + self.news.len();
        while let Some(one) = next {
            sent += self.send_news(&one)?;
            turns -= 1;
            next = match turns {
                0 => None,
                _ => self.news.try_recv().ok(),
            };
        }
        self.service.counters.deliveries.add(sent);
        self.flush()
    }

    fn send_news(&mut self, one: &Arc<Subscription>) -> Result<u64, End> {
        one.taken();
        for sent in 0..TURN {
            match one.next() {
                Next::Message(text) => self.write(Message::Text(text))?,
                Next::Nothing => return Ok(sent as u64),
                Next::Another { epoch, offset } => {
                    self.service.counters.resets.add(1);
                    let channel = &one.channel.name;
                    self.say(&Answer::Reset {
                        channel,
                        epoch: &epoch,
                        offset,
                    })?;
                }
                Next::Missed { missed, offset } => {
                    self.service.counters.missed.add(missed);
                    if self.service.config().slow == Slow::Close {
                        self.service.counters.closed_slow.add(1);
                        let reason = format!("too slow: {missed} messages are gone");
                        return Err(End::Closed(CloseCode::Again, reason));
                    }
                    let channel = &one.channel.name;
                    self.say(&Answer::Lag {
                        channel,
                        missed,
                        offset,
                    })?;
                }
            }
        }
        one.again();
        Ok(TURN as u64)
    }

    /// Asks a client that is silent whether it is there, once.
    fn beat(&mut self) -> Result<(), End> {
        if Instant::now() < self.due() {
            return Ok(());
        }
        if self.pinged {
            self.service.counters.closed_silent.add(1);
            let reason = format!("silent for {} s", self.heard.elapsed().as_secs());
            return Err(End::Closed(CloseCode::Policy, reason));
        }
        self.pinged = true;
        self.write(Message::Ping(Default::default()))?;
        self.flush()
    }

    fn say(&mut self, answer: &Answer) -> Result<(), End> {
        self.write(Message::text(answer.to_json()))
    }

    fn write(&mut self, message: Message) -> Result<(), End> {
        let written = self.socket.write(message);
        written.map_err(|why| self.broken(why))
    }

    fn flush(&mut self) -> Result<(), End> {
        let flushed = self.socket.flush();
        flushed.map_err(|why| self.broken(why))
    }

    fn broken(&self, why: Error) -> End {
        let counters = &self.service.counters;
        let (code, counter) = match &why {
            Error::Capacity(_) => (CloseCode::Size, &counters.closed_limit),
            Error::Utf8(_) => (CloseCode::Invalid, &counters.closed_malformed),
            Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
                | tungstenite::error::ProtocolError::SendAfterClosing
                | tungstenite::error::ProtocolError::ReceivedAfterClosing,
            ) => return End::Left,
            Error::Protocol(_) => (CloseCode::Protocol, &counters.closed_malformed),
            Error::Io(why) if why.kind() == io::ErrorKind::WouldBlock => {
                counters.closed_slow.add(1);
                let reason = "too slow: it took no byte in time".into();
                return End::Closed(CloseCode::Again, reason);
            }
            Error::Io(why) if crore::io::is_cancelled(why) => return End::Goodbye,
            _ => return End::Left,
        };
        counter.add(1);
        End::Closed(code, why.to_string())
    }

    /// Says why it ends, and waits a little for the client to have read it.
    #[inline(never)]
    pub fn close(&mut self, end: End) {
        let (code, reason) = match end {
            End::Left => {
                // The answer to the client's close frame, if it is not sent yet.
                let _ = self.socket.flush();
                return;
            }
            End::Closed(code, reason) => (code, reason),
            End::Goodbye => {
                self.service.counters.goodbyes.add(1);
                let most = self.service.config().reconnect_ms;
                // Not all at once: they are spread over the time.
                let reconnect_ms = self.spread() % most.max(1);
                let _ = self.say(&Answer::Goodbye { reconnect_ms });
                (CloseCode::Away, format!("reconnect in {reconnect_ms} ms"))
            }
        };
        let reason = shorten(reason).into();
        let transport = self.socket.get_mut();
        let _ = transport.socket().set_write_timeout(Some(LINGER));
        let _ = self.socket.close(Some(CloseFrame { code, reason }));
        let _ = self.socket.flush();
        let transport = self.socket.get_mut();
        // What it still sends is thrown away: closed with bytes unread, the socket would
        // be reset, and the client might lose what it was told.
        transport.allow(1000);
        let _ = crore::timeout(LINGER, || {
            transport.finish()?;
            let mut bytes = vec![0; 4 << 10];
            while transport.read(&mut bytes)? > 0 {}
            io::Result::Ok(())
        });
    }

    fn spread(&self) -> u64 {
        use std::hash::BuildHasher;
        std::hash::RandomState::new().hash_one(&self.member.client)
    }
}

/// A close frame has room for 123 bytes.
fn shorten(mut reason: String) -> String {
    let end = (0..=123).rev().find(|end| reason.is_char_boundary(*end));
    reason.truncate(end.unwrap_or(0));
    reason
}

impl Drop for Session {
    fn drop(&mut self) {
        for subscription in &self.subscriptions {
            subscription.end();
            let channel = &subscription.channel.name;
            self.service.bus.leave(channel, &self.member);
        }
        // They know the queue that they lie in.
        while self.news.try_recv().is_ok() {}
        self.service.counters.sockets.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn a_reason_fits_into_its_frame() {
        assert_eq!(shorten("short".into()), "short");
        assert_eq!(shorten("é".repeat(100)).len(), 122);
    }
}
