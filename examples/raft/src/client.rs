//! Client: finds the leader, and asks again until it knows what came of its command.

use std::io::{self, ErrorKind};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::machine::{Op, Outcome, Output};
use crate::wire::{Connection, Reply, Request};

/// A pause before the next node is asked, while none leads.
const PAUSE: Duration = Duration::from_millis(20);

/// A client of the cluster, with one session: a command that it repeats is done once.
pub struct Client {
    nodes: Vec<String>,
    /// Who is asked: one of `nodes`, or the leader that it named.
    asked: String,
    next: usize,
    connection: Option<Connection>,
    session: Option<u64>,
    number: u64,
    answer: Duration,
    patience: Duration,
}

impl Client {
    /// A client that asks these nodes, each for as long as `answer`, and gives up a command
    /// after `patience`.
    ///
    /// # Panics
    ///
    /// If there are no nodes.
    pub fn new(nodes: Vec<String>, answer: Duration, patience: Duration) -> Self {
        Self {
            asked: nodes[0].clone(),
            nodes,
            next: 0,
            connection: None,
            session: None,
            number: 0,
            answer,
            patience,
        }
    }

    /// Does `op` with the value of `key`, once; or returns an error, and it may yet be
    /// done until the next command of this client is.
    pub fn run(&mut self, key: &str, op: Op) -> io::Result<Output> {
        let until = Instant::now() + self.patience;
        if op == Op::Get {
            let request = Request::Read { key: key.into() };
            return match self.ask(&request, until)? {
                Reply::Value(value) => Ok(Output::Value(value)),
                other => Err(unexpected(&other)),
            };
        }
        let session = match self.session {
            Some(session) => session,
            None => self.open(until)?,
        };
        self.number += 1;
        let request = Request::Do {
            session,
            number: self.number,
            key: key.into(),
            op,
        };
        match self.ask(&request, until)? {
            Reply::Outcome(Outcome::Did(output)) => Ok(output),
            other => {
                self.session = None;
                Err(unexpected(&other))
            }
        }
    }

    fn open(&mut self, until: Instant) -> io::Result<u64> {
        match self.ask(&Request::Open, until)? {
            Reply::Outcome(Outcome::Opened(session)) => {
                (self.session, self.number) = (Some(session), 0);
                Ok(session)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Asks one after the other until there is an answer.
    fn ask(&mut self, request: &Request, until: Instant) -> io::Result<Reply> {
        loop {
            match self.try_once(request) {
                Ok(Reply::NotLeader(Some(leader))) if leader != self.asked => {
                    self.asked = leader;
                    self.connection = None;
                }
                Ok(Reply::NotLeader(_) | Reply::Unknown) | Err(_) => {
                    self.next = (self.next + 1) % self.nodes.len();
                    self.asked.clone_from(&self.nodes[self.next]);
                    self.connection = None;
                    sleep(PAUSE);
                }
                Ok(reply) => return Ok(reply),
            }
            if Instant::now() >= until {
                return Err(io::Error::new(ErrorKind::TimedOut, "no answer in time"));
            }
        }
    }

    fn try_once(&mut self, request: &Request) -> io::Result<Reply> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.asked, self.answer)?,
        };
        let reply = connection.call(request)?;
        self.connection = Some(connection);
        Ok(reply)
    }
}

fn unexpected(reply: &Reply) -> io::Error {
    io::Error::other(format!("the answer is {reply:?}"))
}
