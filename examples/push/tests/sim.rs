//! The service in the simulator: its node crashes and comes back, is cut off, resets its
//! connections, moves bytes in parts, all by the seed; its clients come back each time. What
//! they are promised holds.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

use crore::io::Listener;
use crore::sim::{self, Escapes, Faults, Link, Sim, check};
use crore::{Builder, CancelToken};
use crore_push::config::{Config, Stacks};
use crore_push::gateway;
use crore_push::service::Service;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

const ROOM: &str = "room";
const WRITERS: [&str; 2] = ["ann", "bob"];
const READERS: [&str; 3] = ["cid", "dan", "eve"];
/// Messages of each writer; the history keeps all.
const MESSAGES: usize = 30;
const SECOND: Duration = Duration::from_secs(1);

/// A message's place: the history's name, and the offset there.
type At = (String, u64);

/// What the clients have been told.
#[derive(Default)]
struct Told {
    /// Places that writers were told, and the message.
    published: Vec<(At, String)>,
    /// What each reader got, in its order.
    received: BTreeMap<&'static str, Vec<(At, String)>>,
    /// Writers that are done.
    done: usize,
}

/// The node: what `node::run` does, but for signals and the admin's pages.
fn serve(stacks: Stacks) {
    let config = Config {
        stacks,
        heartbeat_ms: 2_000,
        write_ms: 3_000,
        ..Config::default()
    };
    let service = Arc::new(Service::new(config).unwrap());
    service.bus.begin(&service).unwrap();
    let swept = service.clone();
    spawn(move || {
        loop {
            sleep(SECOND);
            swept.sweep();
        }
    });
    let listener = Listener::bind("0.0.0.0:80").unwrap();
    // As on a worker of a node, beside others on the thread's own thread-locals.
    let acceptor = Builder::new().own_thread_locals(false);
    let accept = move || gateway::accept(&listener, &service, &CancelToken::new());
    acceptor.spawn(accept).unwrap().join().unwrap();
}

/// A connection whose other side may be gone.
struct Client {
    socket: WebSocket<TcpStream>,
    id: u64,
}

type Answer<T> = Result<T, String>;

impl Client {
    fn connect(name: &str) -> Answer<Self> {
        let text = |why: io::Error| why.to_string();
        let stream = TcpStream::connect("gateway:80").map_err(text)?;
        stream.set_read_timeout(Some(5 * SECOND)).map_err(text)?;
        stream.set_write_timeout(Some(5 * SECOND)).map_err(text)?;
        let url = format!("ws://gateway/ws?name={name}");
        let opened = tungstenite::client(url, stream).map_err(|why| why.to_string())?;
        let mut client = Self {
            socket: opened.0,
            id: 0,
        };
        assert_eq!(client.read()?.expect("a greeting")["type"], "hello");
        Ok(client)
    }

    /// The next message; or nothing, where there was a heartbeat.
    fn read(&mut self) -> Answer<Option<Value>> {
        match self.socket.read().map_err(|why| why.to_string())? {
            Message::Text(text) => Ok(Some(serde_json::from_str(&text).unwrap())),
            Message::Close(_) => Err("closed".into()),
            _ => Ok(None),
        }
    }

    /// What comes unasked meanwhile is given to `unasked`.
    fn ask(&mut self, mut request: Value, mut unasked: impl FnMut(Value)) -> Answer<Value> {
        self.id += 1;
        request["id"] = self.id.into();
        let request = Message::text(request.to_string());
        self.socket.send(request).map_err(|why| why.to_string())?;
        loop {
            let Some(message) = self.read()? else {
                continue;
            };
            if message["id"] == self.id {
                assert_ne!(message["type"], "error", "{message}");
                return Ok(message);
            }
            unasked(message);
        }
    }
}

/// Keeps a connection: `talk` goes on until it has no more to say.
fn stay(name: &str, mut talk: impl FnMut(&mut Client) -> Answer<()>) {
    loop {
        match Client::connect(name).and_then(|mut client| talk(&mut client)) {
            Ok(()) => return,
            Err(_) => sleep(Duration::from_millis(50 + sim::random(200))),
        }
    }
}

fn at(message: &Value) -> At {
    let text = message["epoch"].as_str().expect("an epoch");
    (text.to_owned(), message["offset"].as_u64().unwrap())
}

/// Publishes each message until it is told its place.
fn write(name: &'static str, told: &Mutex<Told>) {
    let mut next = 0;
    stay(name, |client| {
        while next < MESSAGES {
            if next + 1 == MESSAGES {
                // Behind all faults, so that what is published is read.
                sleep((20 * SECOND).saturating_sub(sim::elapsed()));
            }
            let word = format!("{name}-{next}");
            let publish = json!({"type": "publish", "channel": ROOM, "data": word, "key": word});
            let answer = client.ask(publish, drop)?;
            told.lock().unwrap().published.push((at(&answer), word));
            next += 1;
            sleep(Duration::from_millis(sim::random(1_000)));
        }
        Ok(())
    });
    told.lock().unwrap().done += 1;
}

/// Gets all of every history that it meets, until nothing more will come.
fn read(name: &'static str, told: &Mutex<Told>) {
    let mut seen: At = ("none".into(), 0);
    stay(name, |client| {
        let since = json!({"epoch": seen.0, "offset": seen.1});
        let subscribe = json!({"type": "subscribe", "channel": ROOM, "since": since});
        let mut early = Vec::new();
        let answer = client.ask(subscribe, |message| early.push(message))?;
        if answer["epoch"] != *seen.0 {
            seen = (at(&answer).0, 0);
        }
        let mut early = early.into_iter();
        while !is_over(&seen, told) {
            let next = match early.next() {
                Some(message) => Some(message),
                None => client.read()?,
            };
            let Some(message) = next else { continue };
            // Nothing here leaves a history before it is read.
            assert_eq!(message["type"], "message", "{message}");
            seen.1 = message["offset"].as_u64().unwrap();
            let word = message["data"].as_str().unwrap().to_owned();
            let mut told = told.lock().unwrap();
            let received = told.received.entry(name).or_default();
            received.push((seen.clone(), word));
        }
        Ok(())
    });
}

/// Whether all has been said, and this is the last of it.
fn is_over(seen: &At, told: &Mutex<Told>) -> bool {
    let told = told.lock().unwrap();
    let last = told.published.last();
    told.done == WRITERS.len()
        && last.is_some_and(|(last, _)| last.0 == seen.0)
        && told
            .published
            .iter()
            .all(|(at, _)| at.0 != seen.0 || at.1 <= seen.1)
}

/// What clients are promised.
fn judge(told: &Told) {
    let mut places = BTreeMap::new();
    for (at, word) in &told.published {
        let before = places.insert(at.clone(), word.clone());
        assert_eq!(before, None, "two messages at {at:?}");
    }
    for (reader, received) in &told.received {
        let mut expected: At = (String::new(), 0);
        let mut newest = BTreeMap::new();
        for (at, word) in received {
            if at.0 != expected.0 {
                expected = (at.0.clone(), 0);
                newest.clear();
            }
            expected.1 += 1;
            assert_eq!(*at, expected, "{reader}: lost, twice, or out of order");
            let there = places.entry(at.clone()).or_insert_with(|| word.clone());
            assert_eq!(there, word, "{reader}: another message at {at:?}");
            let (writer, number) = word.split_once('-').unwrap();
            let number: i64 = number.parse().unwrap();
            let before = newest.insert(writer, number).unwrap_or(-1);
            assert!(before < number, "{reader}: {word} after {before}");
        }
    }
}

/// Everything that breaks, breaks within the writers' time.
fn run(mut sim: Sim, stacks: Stacks) {
    let told = Arc::new(Mutex::new(Told::default()));
    for name in WRITERS {
        let told = told.clone();
        sim = sim.client(name, move || write(name, &told));
    }
    for name in READERS {
        let told = told.clone();
        sim = sim.client(name, move || read(name, &told));
    }
    let link = Link {
        latency: Duration::from_millis(2),
        jitter: Duration::from_millis(20),
        ..Link::default()
    };
    let faults = Faults::within(12 * SECOND)
        .lasting(2 * SECOND)
        .crashes(2)
        .partitions(3)
        .resets(6)
        .short_transfers(4)
        .interruptions(2)
        .false_readiness(2);
    sim.node("gateway", move || serve(stacks))
        .link(link)
        .faults(faults)
        .limit(600 * SECOND)
        .escapes(Escapes::Denied)
        .run();
    judge(&told.lock().unwrap());
}

/// `PUSH_SEEDS=1000` looks for longer.
fn seeds() -> std::ops::Range<u64> {
    0..std::env::var("PUSH_SEEDS").map_or(60, |seeds| seeds.parse().unwrap())
}

#[test]
fn what_is_published_arrives_once_and_in_order() {
    check(seeds(), |sim| run(sim, Stacks::Own));
}

#[test]
fn on_shared_stacks_as_well() {
    check(seeds(), |sim| run(sim, Stacks::Shared));
}
