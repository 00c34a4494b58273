//! Lane: a connection to Redis, and the queue of what is to be asked over it.
//!
//! Whoever asks waits in a channel; the lane's coroutine sends what lies in the queue at
//! once, and reads the answers. So there are few connections, they are busy, and what is
//! asked about a channel is done in the order in which it was asked: a channel has one
//! lane.

use std::time::{Duration, Instant};

use crore::sync::channel::{self, Receiver, Sender};
use crore::sync::oneshot;
use redis::{Client, Cmd, Connection, ConnectionLike, Value};

use crate::bus::gone;
use crate::bus::redis::script::Server;
use crate::protocol::Refusal;

/// Questions that are sent at once.
const BATCH: usize = 128;
/// Questions of clients that may wait.
const MOST: usize = 16 << 10;
/// After a failure, how long nobody tries to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// Something to ask.
pub trait Job: Send {
    /// The question. `None` if nobody waits for the answer any more.
    fn command(&mut self, server: &Server) -> Option<Cmd>;
    /// The answer, or why there is none: then it may have been done or not.
    fn done(self: Box<Self>, answer: Result<Value, String>);
}

/// The queue.
#[derive(Clone)]
pub struct Lane {
    jobs: Sender<Box<dyn Job>>,
    limit: Duration,
}

/// Its other end.
pub struct Worker {
    jobs: Receiver<Box<dyn Job>>,
    client: Client,
    limit: Duration,
}

/// A question of a client's, which waits.
struct Ask<C, R, T> {
    command: C,
    read: R,
    answer: oneshot::Sender<Result<T, String>>,
}

impl<C, R, T> Job for Ask<C, R, T>
where
    C: Fn(&Server) -> Cmd + Send,
    R: FnOnce(Value) -> Result<T, String> + Send,
    T: Send,
{
    fn command(&mut self, server: &Server) -> Option<Cmd> {
        (!self.answer.is_closed()).then(|| (self.command)(server))
    }

    fn done(self: Box<Self>, answer: Result<Value, String>) {
        // Who has lost patience does not care.
        let _ = self.answer.send(answer.and_then(self.read));
    }
}

impl Lane {
    /// Answers come within `limit`, or are not waited for.
    pub fn new(client: Client, limit: Duration) -> (Self, Worker) {
        let (sender, receiver) = channel::unbounded();
        let lane = Self {
            jobs: sender,
            limit,
        };
        let worker = Worker {
            jobs: receiver,
            client,
            limit,
        };
        (lane, worker)
    }

    /// Without waiting.
    pub fn put(&self, job: Box<dyn Job>) {
        // The worker is a daemon, so it is there.
        let _ = self.jobs.send(job);
    }

    /// Asks, and waits for the answer.
    pub fn ask<T: Send + 'static>(
        &self,
        command: impl Fn(&Server) -> Cmd + Send + 'static,
        read: impl FnOnce(Value) -> Result<T, String> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (answer, wait) = oneshot::channel();
        self.put_if_room(Box::new(Ask {
            command,
            read,
            answer,
        }))?;
        self.wait(&wait)
    }

    /// Unless too many wait.
    pub fn put_if_room(&self, job: Box<dyn Job>) -> Result<(), Refusal> {
        if self.jobs.len() >= MOST {
            return Err(gone("too many wait for it"));
        }
        self.put(job);
        Ok(())
    }

    /// Waits for an answer, as long as one may take.
    pub fn wait<T>(&self, answer: &oneshot::Receiver<Result<T, String>>) -> Result<T, Refusal> {
        match answer.recv_timeout(self.limit) {
            Ok(answer) => answer.map_err(gone),
            Err(_) => Err(gone(format!("no answer in {:?}", self.limit))),
        }
    }
}

impl Worker {
    /// Asks whatever comes, until there is nobody who could.
    pub fn run(&self) {
        let mut connection = None;
        let mut refused: Option<(Instant, String)> = None;
        while let Ok(first) = self.jobs.recv() {
            let mut jobs = vec![first];
            jobs.extend(self.jobs.try_iter().take(BATCH - 1));
            if connection.is_none() {
                if let Some((_, why)) = refused.as_ref().filter(|(at, _)| at.elapsed() < PAUSE) {
                    fail(jobs, why);
                    continue;
                }
                match self.connect() {
                    Ok(new) => connection = Some(new),
                    Err(why) => {
                        fail(jobs, &why);
                        refused = Some((Instant::now(), why));
                        continue;
                    }
                }
            }
            let (open, server) = connection.as_mut().expect("connected");
            if !self.exchange(open, server, jobs) {
                connection = None;
            }
        }
    }

    fn connect(&self) -> Result<(Connection, Server), String> {
        let opened = crore::timeout(self.limit, || {
            let mut connection = self.client.get_connection_with_timeout(self.limit)?;
            let server = Server::ask(&mut connection)?;
            redis::RedisResult::Ok((connection, server))
        });
        let opened = opened.map_err(|_| format!("it can't be reached in {:?}", self.limit))?;
        opened.map_err(|why| why.to_string())
    }

    /// Whether the connection can be used again.
    fn exchange(
        &self,
        connection: &mut Connection,
        server: &Server,
        jobs: Vec<Box<dyn Job>>,
    ) -> bool {
        let mut asked = Vec::with_capacity(jobs.len());
        let mut bytes = Vec::new();
        for mut job in jobs {
            if let Some(command) = job.command(server) {
                command.write_packed_command(&mut bytes);
                asked.push(job);
            }
        }
        let answers = crore::timeout(self.limit, || {
            connection.req_packed_commands(&bytes, 0, asked.len())
        });
        let answers = match answers {
            Ok(Ok(answers)) if answers.len() == asked.len() => answers,
            Ok(Ok(_)) => return fail(asked, "an answer is missing"),
            Ok(Err(why)) => return fail(asked, &why.to_string()),
            Err(_) => return fail(asked, &format!("no answer in {:?}", self.limit)),
        };
        let mut sound = true;
        for (job, answer) in asked.into_iter().zip(answers) {
            job.done(match answer {
                Value::ServerError(why) => {
                    // It may have forgotten the scripts: a new connection tells it again.
                    sound = false;
                    Err(why.to_string())
                }
                answer => Ok(answer),
            });
        }
        sound
    }
}

/// `false`, the connection can't be used.
fn fail(jobs: Vec<Box<dyn Job>>, why: &str) -> bool {
    for job in jobs {
        job.done(Err(why.to_owned()));
    }
    false
}

/// Lanes by the channel's name.
pub struct Lanes(Vec<Lane>);

impl Lanes {
    /// As many as there are.
    pub fn new(lanes: Vec<Lane>) -> Self {
        Self(lanes)
    }

    /// The channel's.
    pub fn of(&self, channel: &str) -> &Lane {
        // The same for every message; which one does not matter.
        let sum = channel.bytes().fold(0_usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        &self.0[sum % self.0.len()]
    }
}
