//! Feed: the one connection by which a node hears of new messages, on all channels that
//! it follows.
//!
//! One coroutine reads it, others write to it; so it is a plain socket, and no connection
//! of a client's. Whether it is Redis's or NATS's is for `words`. It is asked for a sign of
//! life all the time, since a network that is cut says nothing.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crore::sync::{Mutex, MutexGuard, oneshot};

use crate::bus::gone;
use crate::bus::redis::words::{Ears, Heard, Words};
use crate::protocol::Refusal;

/// Channels that are asked for at once after a reconnection.
const CHUNK: usize = 500;

/// What a node follows, and by what.
pub struct Feed {
    words: Box<dyn Words>,
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many of the node's channels have the name: an old one may be about to go.
    wanted: HashMap<Box<str>, usize>,
    link: Option<Link>,
    /// How many there were.
    links: u64,
}

struct Link {
    socket: TcpStream,
    /// Who waits for the server's word that it has subscribed, in the order of asking.
    waiting: VecDeque<Option<oneshot::Sender<()>>>,
}

impl Link {
    /// `done` hears when the server has subscribed.
    fn subscribe(
        &mut self,
        words: &dyn Words,
        names: &[&str],
        done: Option<oneshot::Sender<()>>,
    ) -> io::Result<()> {
        let (bytes, answers) = words.subscribe(names);
        self.expect(answers);
        if let Some(last) = self.waiting.back_mut() {
            *last = done;
        }
        self.write(&bytes)
    }

    /// So many answers more will come.
    fn expect(&mut self, answers: usize) {
        let all = self.waiting.len() + answers;
        self.waiting.resize_with(all, || None);
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let written = (&self.socket).write_all(bytes);
        written.inspect_err(|_| {
            // Its reader has to know.
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        })
    }
}

impl Feed {
    /// A sign of life is waited for as long as `limit`.
    pub fn new(words: Box<dyn Words>, limit: Duration) -> Self {
        Self {
            words,
            limit,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The number of the connection, if there is one.
    pub fn link(&self) -> Option<u64> {
        let state = self.lock();
        state.link.as_ref().map(|_| state.links)
    }

    /// The node follows one more channel of this name.
    pub fn want(&self, name: &str) {
        *self.lock().wanted.entry(name.into()).or_default() += 1;
    }

    /// One less.
    pub fn unwant(&self, name: &str) {
        let mut state = self.lock();
        let Some(count) = state.wanted.get_mut(name) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            state.wanted.remove(name);
            if let Some(link) = &state.link {
                // If that fails nothing is followed any more.
                let _ = link.write(&self.words.unsubscribe(name));
            }
        }
    }

    /// What is told of the channel comes from now on, by the connection that is named.
    pub fn subscribe(&self, name: &str) -> Result<u64, Refusal> {
        let (done, wait) = oneshot::channel();
        let number = {
            let mut state = self.lock();
            let number = state.links;
            let link = state.link.as_mut().ok_or_else(|| gone("it is away"))?;
            link.subscribe(&*self.words, &[name], Some(done))
                .map_err(gone)?;
            number
        };
        match wait.recv_timeout(self.limit) {
            Ok(()) => Ok(number),
            Err(_) => Err(gone("it went away, or does not answer")),
        }
    }

    /// Asks for a sign of life.
    pub fn beat(&self) {
        if let Some(link) = &mut self.lock().link {
            let (bytes, answers) = self.words.beat();
            link.expect(answers);
            // If that fails its reader knows.
            let _ = link.write(&bytes);
        }
    }

    /// Tells all nodes, this one too, where whoever adds the message does not. What is not
    /// told is in the history.
    pub fn tell(&self, name: &str, told: impl FnOnce() -> String) {
        if self.tells() {
            let bytes = self.words.tell(name, &told());
            if let (Some(link), Some(bytes)) = (&self.lock().link, bytes) {
                let _ = link.write(&bytes);
            }
        }
    }

    /// Whether messages are told by [`Feed::tell`].
    pub fn tells(&self) -> bool {
        self.words.tell("", "").is_some()
    }

    /// Connects, and asks for all that the node follows. `all` is told when that is so.
    pub fn connect(&self, all: oneshot::Sender<()>) -> Result<Reader, String> {
        let opened = self
            .open()
            .and_then(|socket| Ok((socket.try_clone()?, socket)));
        let (read, socket) = opened.map_err(|why| why.to_string())?;
        let mut state = self.lock();
        state.links += 1;
        let mut link = Link {
            socket,
            waiting: VecDeque::new(),
        };
        let names: Vec<&str> = state.wanted.keys().map(|name| &**name).collect();
        let mut all = Some(all);
        if names.is_empty() {
            // There is nothing to wait for.
            let _ = all.take().map(|all| all.send(()));
        }
        let chunks = names.len().div_ceil(CHUNK);
        for (number, names) in names.chunks(CHUNK).enumerate() {
            let done = all.take_if(|_| number + 1 == chunks);
            link.subscribe(&*self.words, names, done)
                .map_err(|why| why.to_string())?;
        }
        state.link = Some(link);
        drop(state);
        Ok(Reader(self.words.ears(read)))
    }

    fn open(&self) -> io::Result<TcpStream> {
        let (host, port) = self.words.address().map_err(io::Error::other)?;
        let addresses = (&*host, port).to_socket_addrs()?;
        let mut tried = Err(io::Error::other(format!("{host} has no address")));
        for address in addresses {
            tried = TcpStream::connect_timeout(&address, self.limit);
            if tried.is_ok() {
                break;
            }
        }
        let socket = tried?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(self.limit))?;
        socket.set_write_timeout(Some(self.limit))?;
        (&socket).write_all(&self.words.greeting())?;
        Ok(socket)
    }

    /// The connection has ended.
    pub fn end(&self) {
        self.lock().link = None;
    }

    /// The next message: the channel's name, what was told.
    pub fn hear(&self, reader: &mut Reader) -> Result<(String, String), String> {
        loop {
            match reader.0.hear()? {
                Heard::Told(name, told) => return Ok((name, told)),
                Heard::Subscribed => {
                    let mut state = self.lock();
                    let waiting = state
                        .link
                        .as_mut()
                        .and_then(|link| link.waiting.pop_front());
                    // Whoever has lost patience does not care.
                    waiting.flatten().map(|one| one.send(()));
                }
                Heard::Asked(answer) => {
                    if let Some(link) = &self.lock().link {
                        link.write(answer).map_err(|why| why.to_string())?;
                    }
                }
                Heard::Else => {}
            }
        }
    }
}

/// The connection's receiving half.
pub struct Reader(Box<dyn Ears>);
