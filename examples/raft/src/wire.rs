//! Wire: the messages, and connections that carry them: a length, then postcard's bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::log::Entry;
use crate::machine::{Op, Outcome};

/// The longest message.
const LONGEST: usize = 16 << 20;

/// What a node is asked: the first three by peers, the others by clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// For its vote.
    Vote {
        /// The candidate's term.
        term: u64,
        /// The candidate.
        candidate: usize,
        /// Index and term of the candidate's last entry.
        last: (u64, u64),
    },
    /// To take entries; without any, a heartbeat.
    Append {
        /// The leader's term.
        term: u64,
        /// The leader.
        leader: usize,
        /// Index and term of the entry before them.
        previous: (u64, u64),
        /// Up to where the leader has committed.
        commit: u64,
        /// Them.
        entries: Vec<Entry>,
    },
    /// To take a part of a snapshot.
    Snapshot {
        /// The leader's term.
        term: u64,
        /// The leader.
        leader: usize,
        /// The snapshot's last entry.
        index: u64,
        /// Where the part begins.
        offset: usize,
        /// The part.
        data: Vec<u8>,
        /// Whether it is the last.
        last: bool,
    },
    /// To open a session.
    Open,
    /// To do something once.
    Do {
        /// The session.
        session: u64,
        /// Its command's number.
        number: u64,
        /// Which value.
        key: String,
        /// What to do.
        op: Op,
    },
    /// To read a value as it is now.
    Read {
        /// Which value.
        key: String,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Vote`].
    Vote {
        /// The voter's term.
        term: u64,
        /// Whether the candidate has its vote.
        granted: bool,
    },
    /// To [`Request::Append`], and to the last part of a snapshot.
    Append {
        /// The follower's term.
        term: u64,
        /// Whether the entries are in the follower's log.
        success: bool,
        /// Up to where the logs are the same; without success: the leader may try from
        /// here.
        index: u64,
    },
    /// To a part of a snapshot.
    Part {
        /// The follower's term.
        term: u64,
        /// How much the follower has of it.
        received: usize,
    },
    /// To a client: what came of it.
    Outcome(Outcome),
    /// To [`Request::Read`].
    Value(Option<String>),
    /// To a client: ask the leader, whose address is this.
    NotLeader(Option<String>),
    /// To a client: whether it was done or not is not known; ask again.
    Unknown,
}

/// A connection that carries one request at a time.
pub struct Connection(TcpStream);

impl Connection {
    /// Connects; this, and each answer, may take as long as `limit`.
    pub fn open(address: &str, limit: Duration) -> io::Result<Self> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => return Self::new(stream, limit),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// Takes one that is there; it may be silent as long as `limit`.
    pub fn new(stream: TcpStream, limit: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Self(stream))
    }

    /// Asks, and waits for the answer. After an error the connection is of no more use: an
    /// answer that comes late must not be taken for another's.
    pub fn call(&mut self, request: &Request) -> io::Result<Reply> {
        self.send(request)?;
        self.receive()
    }

    /// Sends a message.
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
        if body.len() > LONGEST {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is too long"));
        }
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend(body);
        self.0.write_all(&bytes)
    }

    /// Waits for a message.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        let spoilt = |why: String| io::Error::new(ErrorKind::InvalidData, why);
        if length > LONGEST {
            return Err(spoilt(format!("a message of {length} bytes")));
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        postcard::from_bytes(&body).map_err(|why| spoilt(why.to_string()))
    }
}
