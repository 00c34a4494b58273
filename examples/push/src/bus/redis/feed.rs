//! Feed: the one connection by which a node hears of new messages, on all channels that
//! it follows.
//!
//! One coroutine reads it, others write to it; so it is a plain socket, with `redis`'s
//! words and parser, and not a connection of that crate's. It is asked for a sign of life
//! all the time, since a network that is cut says nothing.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crore::sync::{Mutex, MutexGuard, oneshot};
use redis::{ConnectionAddr, ConnectionInfo, Parser, Value, cmd};

use crate::bus::gone;
use crate::bus::redis::script;
use crate::protocol::Refusal;

/// Channels that are asked for at once after a reconnection.
const CHUNK: usize = 500;

/// What a node follows, and by what.
pub struct Feed {
    server: ConnectionInfo,
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

/// What the server says.
pub enum Heard {
    /// A message: the channel's name, what was told.
    Told(String, String),
    /// Something that is dealt with.
    Else,
}

impl Link {
    fn subscribe(&mut self, names: &[&str], done: Option<oneshot::Sender<()>>) -> io::Result<()> {
        let mut command = cmd("SUBSCRIBE");
        for name in names {
            command.arg(script::subject(name));
        }
        let first = self.waiting.len();
        self.waiting.resize_with(first + names.len(), || None);
        if let Some(last) = self.waiting.back_mut() {
            *last = done;
        }
        self.write(&command)
    }

    fn write(&self, command: &redis::Cmd) -> io::Result<()> {
        let written = (&self.socket).write_all(&command.get_packed_command());
        written.inspect_err(|_| {
            // Its reader has to know.
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        })
    }
}

impl Feed {
    /// A sign of life is waited for as long as `limit`.
    pub fn new(server: ConnectionInfo, limit: Duration) -> Self {
        Self {
            server,
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
                let _ = link.write(cmd("UNSUBSCRIBE").arg(script::subject(name)));
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
            link.subscribe(&[name], Some(done)).map_err(gone)?;
            number
        };
        match wait.recv_timeout(self.limit) {
            Ok(()) => Ok(number),
            Err(_) => Err(gone("it went away, or does not answer")),
        }
    }

    /// Asks for a sign of life.
    pub fn beat(&self) {
        if let Some(link) = &self.lock().link {
            // If that fails its reader knows.
            let _ = link.write(&cmd("PING"));
        }
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
            link.subscribe(names, done).map_err(|why| why.to_string())?;
        }
        state.link = Some(link);
        drop(state);
        Ok(Reader {
            socket: BufReader::new(read),
            parser: Parser::new(),
        })
    }

    fn open(&self) -> io::Result<TcpStream> {
        let ConnectionAddr::Tcp(host, port) = self.server.addr() else {
            return Err(io::Error::other("only redis://HOST:PORT is here"));
        };
        let addresses = (&**host, *port).to_socket_addrs()?;
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
        let settings = self.server.redis_settings();
        if let Some(password) = settings.password() {
            let mut command = cmd("AUTH");
            settings.username().map(|name| command.arg(name).clone());
            command.arg(password);
            (&socket).write_all(&command.get_packed_command())?;
        }
        Ok(socket)
    }

    /// The connection has ended.
    pub fn end(&self) {
        self.lock().link = None;
    }

    /// The next thing that is heard.
    pub fn hear(&self, reader: &mut Reader) -> Result<Heard, String> {
        let value = reader.parser.parse_value(&mut reader.socket);
        let value = value.map_err(|why| why.to_string())?;
        if let Value::ServerError(why) = value {
            return Err(why.to_string());
        }
        // The others are `OK` and `PONG`.
        let Value::Array(mut parts) = value else {
            return Ok(Heard::Else);
        };
        let mut text = || match parts.pop() {
            Some(Value::BulkString(bytes)) => String::from_utf8(bytes).ok(),
            _ => None,
        };
        let (last, subject, kind) = (text(), text(), text());
        match (kind.as_deref(), subject, last) {
            (Some("message"), Some(subject), Some(told)) => {
                let name = script::channel(&subject).ok_or("a subject that nobody asked for")?;
                return Ok(Heard::Told(name.to_owned(), told));
            }
            (Some("subscribe"), ..) => {
                let mut state = self.lock();
                let waiting = state
                    .link
                    .as_mut()
                    .and_then(|link| link.waiting.pop_front());
                // Whoever has lost patience does not care.
                waiting.flatten().map(|one| one.send(()));
            }
            _ => {}
        }
        Ok(Heard::Else)
    }
}

/// The connection's receiving half.
pub struct Reader {
    socket: BufReader<TcpStream>,
    parser: Parser,
}
