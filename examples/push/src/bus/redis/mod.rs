//! The bus by Redis: histories, keys and presence are there, and each node has the
//! newest part of the channels that it follows.
//!
//! - `script` is what Redis does, at one stroke each; `lane` a connection to ask it;
//!   `feed` the connection by which it tells what is new, or NATS does (`words`, `nats`);
//! - here is what they are for: a node *follows* a channel from the first subscriber on.
//!   It subscribes at Redis first and reads the history then, so nothing lies between.
//!
//! What is told may be lost, what is in the history is not: a node that hears a message
//! too early, or has lost the feed, or finds at its regular look that there is more than
//! it has, asks for the rest ([`Redis::heal`]).
//!
//! When Redis is away, publishing and subscribing are refused, clients stay, and get what
//! they missed when it is back. If it has then lost messages, or may have, the epoch is
//! another, and all are told.

mod feed;
mod lane;
mod nats;
mod script;
mod words;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crore::Builder;
use crore::sync::oneshot;
use redis::{Client, Cmd, Value};

use crate::bus::{Bus, Page, Place, gone};
use crate::channel::{Appended, Channel, Snapshot};
use crate::config::Config;
use crate::protocol::{self, Member, Refusal, Since};
use crate::service::Service;
use feed::Feed;
use lane::{Job, Lane, Lanes, Worker};
use nats::Nats;
use script::{Script, Server};
use words::{Resp, Words};

/// Connections to ask over.
const LANES: usize = 4;
/// Between tries to hear of messages again.
const PAUSE: Duration = Duration::from_millis(100);

/// Redis, as a node uses it.
pub struct Redis {
    feed: Feed,
    lanes: Lanes,
    /// Whether Redis has answered when it was asked last.
    answers: AtomicBool,
    /// Until they run.
    workers: std::sync::Mutex<Vec<Worker>>,
    limit: Duration,
    /// How long a node that says nothing is believed to be there.
    presence: Duration,
}

impl Redis {
    /// By the setting `bus`.
    pub fn new(config: &Config) -> Result<Arc<Self>, String> {
        let wrong = |why: redis::RedisError| format!("bus = {}: {why}", config.bus);
        let client = Client::open(&*config.bus).map_err(wrong)?;
        let words: Box<dyn Words> = match &*config.fanout {
            "redis" => Box::new(Resp(client.get_connection_info().clone())),
            url => Box::new(Nats::parse(url).ok_or_else(|| {
                format!("fanout = {url}: redis or nats://[NAME:PASSWORD@]HOST:PORT")
            })?),
        };
        let limit = Duration::from_millis(config.bus_ms);
        let (lanes, workers) = (0..LANES)
            .map(|_| Lane::new(client.clone(), limit))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        Ok(Arc::new(Self {
            feed: Feed::new(words, limit),
            lanes: Lanes::new(lanes),
            answers: AtomicBool::new(true),
            workers: std::sync::Mutex::new(workers),
            limit,
            presence: Duration::from_millis(config.presence_ms),
        }))
    }

    /// Follows a channel, if it does not yet, and knows what `since` names.
    fn follow(
        &self,
        service: &Arc<Service>,
        channel: &Arc<Channel>,
        since: Option<&Since>,
    ) -> Result<(), Refusal> {
        // One at a time asks, the others find that it has.
        let link = channel.link.try_lock_for(self.limit);
        let mut link = link.map_err(|_| gone(format!("no answer in {:?}", self.limit)))?;
        if !link.wanted {
            self.feed.want(&channel.name);
            link.wanted = true;
        }
        let present = self.feed.link().ok_or_else(|| gone("it is away"))?;
        if link.connection != present {
            let connection = self.feed.subscribe(&channel.name)?;
            self.fetch(service, channel)?;
            link.connection = connection;
        }
        drop(link);
        if since.is_some_and(|since| channel.is_behind(since)) {
            self.fetch(service, channel)?;
        }
        Ok(())
    }

    /// Asks for what the node does not have of the channel, and waits for it.
    fn fetch(&self, service: &Arc<Service>, channel: &Arc<Channel>) -> Result<(), Refusal> {
        let lane = self.lanes.of(&channel.name);
        let (answer, wait) = oneshot::channel();
        lane.put_if_room(Box::new(Fetch {
            service: service.clone(),
            channel: channel.clone(),
            answer,
        }))?;
        lane.wait(&wait)
    }

    /// Asks for what the node does not have of the channel, until it has it.
    fn heal(self: &Arc<Self>, service: &Arc<Service>, channel: Arc<Channel>) {
        if !channel.is_asked.swap(true, Ordering::AcqRel) {
            let lane = self.lanes.of(&channel.name);
            lane.put(Box::new(Heal {
                bus: self.clone(),
                service: service.clone(),
                channel: channel.clone(),
            }));
        }
    }

    /// Hears of messages, for ever.
    fn listen(self: &Arc<Self>, service: &Arc<Service>) {
        let mut said = String::new();
        loop {
            let why = self.listen_once(service).unwrap_err();
            if self.feed.link().is_some() {
                self.feed.end();
                said.clear();
            }
            if why != said {
                eprintln!("push: the bus is away: {why}");
                said = why;
            }
            crore::sleep(PAUSE);
        }
    }

    fn listen_once(self: &Arc<Self>, service: &Arc<Service>) -> Result<(), String> {
        let (all, followed) = oneshot::channel();
        let mut reader = self.feed.connect(all)?;
        service.counters.bus_links.add(1);
        eprintln!("push: the bus is there");
        let (bus, healed) = (self.clone(), service.clone());
        crore::spawn_local(move || {
            // What was told meanwhile nobody has heard.
            if followed.recv().is_ok() {
                bus.heal_all(&healed);
            }
        });
        loop {
            let (name, told) = self.feed.hear(&mut reader)?;
            let told = script::told(&told).ok_or("told what it does not understand")?;
            self.take(service, &name, told);
        }
    }

    fn heal_all(self: &Arc<Self>, service: &Arc<Service>) {
        for channel in service.channels.all() {
            self.heal(service, channel);
        }
    }

    /// Sees whether Redis is there, where the feed is another's.
    fn ask_for_life(self: &Arc<Self>, service: &Arc<Service>) {
        loop {
            crore::sleep(self.limit / 3);
            let asked = self.lanes.of("").ask(|_| redis::cmd("PING"), |_| Ok(()));
            let answered = self.answers.swap(asked.is_ok(), Ordering::Relaxed);
            if asked.is_ok() && !answered {
                self.heal_all(service);
            }
        }
    }

    fn take(self: &Arc<Self>, service: &Arc<Service>, name: &str, told: (&str, u64, &str)) {
        let Some(channel) = service.channels.find(name) else {
            return;
        };
        let (epoch, offset, data) = told;
        match channel.append(&service.config(), epoch, offset, data) {
            Appended::New | Appended::Twice => {}
            Appended::Early | Appended::Foreign => self.heal(service, channel),
        }
    }

    /// Says regularly who is here, and sees whether something was not told.
    fn look(self: &Arc<Self>, service: &Arc<Service>) {
        loop {
            crore::sleep(self.presence / 3);
            for channel in service.channels.all() {
                self.lanes.of(&channel.name).put(Box::new(Look {
                    bus: self.clone(),
                    service: service.clone(),
                    channel: channel.clone(),
                }));
            }
        }
    }

    fn enter(
        server: &Server,
        config: &Config,
        presence: Duration,
        channel: &str,
        members: &[Member],
    ) -> Cmd {
        let mut call = server.call(Script::Enter, config, channel);
        call.arg(presence.as_millis() as u64);
        for member in members {
            call.arg(script::text(member));
        }
        call
    }
}

impl Bus for Arc<Redis> {
    fn begin(&self, service: &Arc<Service>) -> io::Result<()> {
        let daemon = |name: &str| Builder::new().name(name.into()).daemon(true);
        for worker in self.workers.lock().unwrap().drain(..) {
            daemon("lane of the bus").spawn(move || worker.run())?;
        }
        let (bus, its) = (self.clone(), service.clone());
        daemon("feed of the bus").spawn(move || bus.listen(&its))?;
        let (bus, its) = (self.clone(), service.clone());
        daemon("look at the bus").spawn(move || bus.look(&its))?;
        if self.feed.tells() {
            let (bus, its) = (self.clone(), service.clone());
            daemon("life of the bus").spawn(move || bus.ask_for_life(&its))?;
        }
        let (bus, pause) = (self.clone(), self.limit / 3);
        daemon("beat of the bus").spawn(move || {
            loop {
                crore::sleep(pause);
                bus.feed.beat();
            }
        })?;
        Ok(())
    }

    fn is_there(&self) -> bool {
        self.feed.link().is_some() && self.answers.load(Ordering::Relaxed)
    }

    fn enter(
        &self,
        service: &Arc<Service>,
        name: &str,
        member: &Member,
        since: Option<&Since>,
    ) -> Result<Arc<Channel>, Refusal> {
        let config = service.config();
        let channel = service.channels.open(&config, name)?;
        self.follow(service, &channel, since)?;
        let (name, member, presence) = (name.to_owned(), member.clone(), self.presence);
        self.lanes.of(&channel.name).ask(
            move |server| {
                Redis::enter(
                    server,
                    &config,
                    presence,
                    &name,
                    std::slice::from_ref(&member),
                )
            },
            |_| Ok(()),
        )?;
        Ok(channel)
    }

    fn leave(&self, channel: &str, member: &Member) {
        self.lanes.of(channel).put(Box::new(Leave {
            channel: channel.into(),
            member: member.clone(),
        }));
    }

    fn forget(&self, channel: &Channel) {
        let mut link = channel
            .link
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if std::mem::take(&mut link.wanted) {
            self.feed.unwant(&channel.name);
        }
    }

    fn is_idle(&self, config: &Config, channel: &Channel) -> bool {
        channel.is_idle_mirror(config)
    }

    fn publish(
        &self,
        service: &Arc<Service>,
        channel: &str,
        key: Option<&str>,
        data: &str,
    ) -> Result<Place, Refusal> {
        let lane = self.lanes.of(channel);
        let config = service.config();
        let key = key.unwrap_or("").to_owned();
        // Where the script tells of it.
        let subject = match self.feed.tells() {
            true => String::new(),
            false => script::subject(channel),
        };
        let (name, its) = (channel.to_owned(), data.to_owned());
        let place = move |server: &Server| {
            let mut call = server.call(Script::Publish, &config, &name);
            call.arg(&subject).arg(&key).arg(&its);
            call
        };
        let (epoch, offset): (String, u64) = lane.ask(place, script::read)?;
        self.feed
            .tell(channel, || script::tell(&epoch, offset, data));
        Ok(Place {
            epoch: epoch.into(),
            offset,
        })
    }

    fn history(
        &self,
        service: &Arc<Service>,
        channel: &str,
        after: u64,
        limit: usize,
    ) -> Result<Page, Refusal> {
        let config = service.config();
        let name = channel.to_owned();
        let fetch = move |server: &Server| {
            let mut call = server.call(Script::Fetch, &config, &name);
            call.arg("").arg(0).arg(limit);
            call
        };
        let found = self.lanes.of(channel).ask(fetch, script::snapshot)?;
        let texts = found.messages.iter().filter(|one| one.0 > after);
        Ok(Page {
            texts: texts
                .map(|(offset, _, data)| protocol::message(channel, *offset, data).into())
                .collect(),
            last: Place {
                epoch: found.epoch,
                offset: found.last,
            },
        })
    }

    fn members(&self, service: &Arc<Service>, channel: &str) -> Result<Vec<Member>, Refusal> {
        let (name, config) = (channel.to_owned(), service.config());
        let texts: Vec<String> = self.lanes.of(channel).ask(
            move |server| server.call(Script::Members, &config, &name),
            script::read,
        )?;
        let members = texts.iter().map(|text| serde_json::from_str(text));
        members
            .collect::<Result<_, _>>()
            .map_err(|why| gone(why.to_string()))
    }
}

/// Asks for what a node does not have of a channel.
fn missing(server: &Server, service: &Service, channel: &Channel) -> Cmd {
    let config = service.config();
    let (epoch, last) = channel.place();
    let mut call = server.call(Script::Fetch, &config, &channel.name);
    call.arg(&*epoch).arg(last).arg(config.history_messages);
    call
}

/// In the lane, so what was asked later is installed later.
fn install(service: &Service, channel: &Channel, answer: Value) -> Result<(), String> {
    let snapshot: Snapshot = script::snapshot(answer)?;
    channel.install(&service.config(), &snapshot);
    Ok(())
}

/// A channel's missing messages, for somebody who waits.
struct Fetch {
    service: Arc<Service>,
    channel: Arc<Channel>,
    answer: oneshot::Sender<Result<(), String>>,
}

impl Job for Fetch {
    fn command(&mut self, server: &Server) -> Option<Cmd> {
        Some(missing(server, &self.service, &self.channel))
    }

    fn done(self: Box<Self>, answer: Result<Value, String>) {
        let installed = answer.and_then(|answer| install(&self.service, &self.channel, answer));
        // Whoever has lost patience does not care.
        let _ = self.answer.send(installed);
    }
}

/// A channel's missing messages, for its subscribers.
struct Heal {
    bus: Arc<Redis>,
    service: Arc<Service>,
    channel: Arc<Channel>,
}

impl Job for Heal {
    fn command(&mut self, server: &Server) -> Option<Cmd> {
        // What is told from here on is asked for again.
        self.channel.is_asked.store(false, Ordering::Release);
        Some(missing(server, &self.service, &self.channel))
    }

    fn done(self: Box<Self>, answer: Result<Value, String>) {
        let installed = answer.and_then(|answer| install(&self.service, &self.channel, answer));
        if installed.is_err() {
            let Self {
                bus,
                service,
                channel,
            } = *self;
            channel.is_asked.store(false, Ordering::Release);
            crore::spawn_local(move || {
                crore::sleep(PAUSE);
                // Without a connection the next one asks for all.
                if bus.is_there() {
                    bus.heal(&service, channel);
                }
            });
        }
    }
}

/// Who is subscribed to a channel on this node, at the moment of asking.
struct Look {
    bus: Arc<Redis>,
    service: Arc<Service>,
    channel: Arc<Channel>,
}

impl Job for Look {
    fn command(&mut self, server: &Server) -> Option<Cmd> {
        let members = self.channel.members();
        if members.is_empty() {
            return None;
        }
        let config = self.service.config();
        let (presence, name) = (self.bus.presence, &self.channel.name);
        Some(Redis::enter(server, &config, presence, name, &members))
    }

    fn done(self: Box<Self>, answer: Result<Value, String>) {
        // Without an answer there is a next time.
        let Ok((epoch, last)) = answer.and_then(script::read::<(String, u64)>) else {
            return;
        };
        let seen = Since {
            epoch,
            offset: last,
        };
        if self.channel.is_behind(&seen) {
            self.bus.heal(&self.service, self.channel.clone());
        }
    }
}

/// One who is subscribed no more.
struct Leave {
    channel: Box<str>,
    member: Member,
}

impl Job for Leave {
    fn command(&mut self, _: &Server) -> Option<Cmd> {
        Some(script::leave(&self.channel, &self.member))
    }

    fn done(self: Box<Self>, _: Result<Value, String>) {
        // It would be forgotten in time.
    }
}
