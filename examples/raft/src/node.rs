//! Node: the coroutines of a replica, and the lock that they share.
//!
//! ```text
//!  run ── clock: elections           one `Mutex` around the replica;
//!    ├── a coroutine for each peer    whoever changes it notifies all that wait
//!    └── acceptor
//!          └── a coroutine for each connection, of peers and of clients
//! ```
//!
//! A replica is locked while it writes its files, so that nothing is said before it is on
//! the disk; never while anything waits for the network.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crore::{CancelToken, Scope};

use crate::config::Config;
use crate::machine::Command;
use crate::observer::Observer;
use crate::replica::{LARGEST, Progress, Replica};
use crate::wire::{Connection, Reply, Request};

/// What the coroutines of a node share.
struct Node {
    config: Config,
    state: Mutex<State>,
    changed: Condvar,
    /// Ends the connections' reads.
    end: CancelToken,
}

struct State {
    replica: Replica,
    /// Why the node has ended, or is about to.
    ended: Option<String>,
}

/// Serves as one node of the cluster until its coroutine is cancelled, or its files can't
/// be written any more. Call it in a coroutine.
pub fn run(config: Config, observer: Arc<dyn Observer>) -> io::Result<()> {
    let listener = TcpListener::bind(&*config.members[config.me].address)?;
    serve(&listener, config, observer)
}

/// As [`run`], where somebody else has made the listener.
pub fn serve(
    listener: &TcpListener,
    config: Config,
    observer: Arc<dyn Observer>,
) -> io::Result<()> {
    let replica = Replica::open(config.clone(), observer, Instant::now())?;
    let state = State {
        replica,
        ended: None,
    };
    let node = &Node {
        config,
        state: Mutex::new(state),
        changed: Condvar::new(),
        end: CancelToken::new(),
    };
    crore::scope(|scope| {
        let others = (0..node.config.members.len()).filter(|&one| one != node.config.me);
        for peer in others {
            scope.spawn(move || node.converse(peer));
        }
        scope.spawn(move || node.end.bind(|| node.accept(scope, listener)));
        let why = node.keep_time();
        node.end(&why);
        Err(why)
    })
}

impl Node {
    /// Elections; until the node ends.
    fn keep_time(&self) -> io::Error {
        loop {
            match self.step(|replica| replica.tick(Instant::now())) {
                Ok(pause) => sleep(pause),
                Err(why) => return why,
            }
            if crore::is_cancelled() {
                return io::Error::other("the node was cancelled");
            }
        }
    }

    fn end(&self, why: &io::Error) {
        if let Ok(mut state) = self.state.lock() {
            state.ended.get_or_insert_with(|| why.to_string());
        }
        self.changed.notify_all();
        self.end.cancel();
    }

    /// The replica, unless the node has ended.
    fn lock(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        let state = state.map_err(|_| io::Error::other("a coroutine of the node panicked"))?;
        match &state.ended {
            Some(why) => Err(io::Error::other(why.clone())),
            None => Ok(state),
        }
    }

    /// One step of the replica's. What can't be written ends the node.
    fn step<T>(&self, step: impl FnOnce(&mut Replica) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.lock()?;
        let done = step(&mut state.replica);
        if let Err(why) = &done {
            state.ended = Some(why.to_string());
        }
        drop(state);
        self.changed.notify_all();
        done
    }

    /// Waits for another step.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Duration,
    ) -> io::Result<MutexGuard<'a, State>> {
        let waited = self.changed.wait_timeout(state, limit);
        let (state, _) =
            waited.map_err(|_| io::Error::other("a coroutine of the node panicked"))?;
        match &state.ended {
            Some(why) => Err(io::Error::other(why.clone())),
            None => Ok(state),
        }
    }

    // Peers.

    /// Sends a peer what there is to send, over one connection while it holds.
    fn converse(&self, peer: usize) -> io::Result<()> {
        let address = &*self.config.members[peer].address;
        let mut kept = None;
        loop {
            let request = self.next_request(peer)?;
            let connection = match kept.take() {
                Some(connection) => Ok(connection),
                None => Connection::open(address, self.config.call),
            };
            let answered = connection.and_then(|mut connection| {
                let reply = connection.call(&request)?;
                Ok((connection, reply))
            });
            match answered {
                Ok((connection, reply)) => {
                    kept = Some(connection);
                    let now = Instant::now();
                    self.step(|replica| replica.on_reply(peer, &request, &reply, now))?;
                }
                Err(_) => sleep(self.config.heartbeat),
            }
        }
    }

    fn next_request(&self, peer: usize) -> io::Result<Request> {
        let mut state = self.lock()?;
        loop {
            if let Some(request) = state.replica.request_for(peer, Instant::now()) {
                return Ok(request);
            }
            state = self.wait(state, self.config.heartbeat)?;
        }
    }

    // Connections.

    fn accept<'a>(&'a self, scope: &'a Scope<'a, '_>, listener: &TcpListener) -> io::Result<()> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    scope.spawn(move || self.end.bind(|| self.attend(stream)));
                }
                Err(why) if crore::io::is_cancelled(&why) => return Err(why),
                // No descriptor is left, or the like.
                Err(_) => sleep(self.config.heartbeat),
            }
        }
    }

    fn attend(&self, stream: TcpStream) -> io::Result<()> {
        let mut connection = Connection::new(stream, self.config.idle)?;
        loop {
            let reply = match connection.receive()? {
                Request::Open => self.command(Command::Open)?,
                Request::Do {
                    session,
                    number,
                    key,
                    op,
                } => self.command(Command::Do {
                    session,
                    number,
                    key,
                    op,
                })?,
                Request::Read { key } => self.read(&key)?,
                peers => self.step(|replica| replica.on_request(peers, Instant::now()))?,
            };
            connection.send(&reply)?;
        }
    }

    fn command(&self, command: Command) -> io::Result<Reply> {
        if command.size() > LARGEST {
            return Err(io::Error::other("the command is too large"));
        }
        let place = match self.step(|replica| replica.propose(command))? {
            Ok(place) => place,
            Err(leader) => return Ok(Reply::NotLeader(leader)),
        };
        let outcome = self.wait_for(|replica| replica.outcome(place));
        self.lock()?.replica.forget(place);
        Ok(outcome?.map_or(Reply::Unknown, Reply::Outcome))
    }

    fn read(&self, key: &str) -> io::Result<Reply> {
        let read = match self.step(|replica| Ok(replica.begin_read()))? {
            Ok(read) => read,
            Err(leader) => return Ok(Reply::NotLeader(leader)),
        };
        let value = self.wait_for(|replica| replica.read(read, key))?;
        Ok(value.map_or(Reply::Unknown, Reply::Value))
    }

    /// What a client waits for; `None`: it was lost, or takes too long.
    fn wait_for<T>(
        &self,
        mut ask: impl FnMut(&mut Replica) -> Progress<T>,
    ) -> io::Result<Option<T>> {
        let until = Instant::now() + self.config.request;
        let mut state = self.lock()?;
        loop {
            match ask(&mut state.replica) {
                Progress::Done(it) => return Ok(Some(it)),
                Progress::Lost => return Ok(None),
                Progress::Waits => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            state = self.wait(state, left)?;
        }
    }
}
