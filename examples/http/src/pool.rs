//! A pool of PostgreSQL connections of the blocking crate `postgres`, with locks of std:
//! whoever waits for one, or for its answer, parks as a coroutine and blocks as a thread.
//!
//! `postgres` has a tokio inside, which knows each thread by its thread-locals. So the
//! coroutines that use a pool need thread-locals of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postgres::{Client, Config, NoTls, Statement};

/// Rows of the table.
const ROWS: u64 = 10_000;

/// A row of TechEmpower's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// 1 to 10 000.
    pub id: i32,
    /// The same.
    pub number: i32,
}

/// So many connections, made when they are wanted first.
#[derive(Debug)]
pub struct Pool {
    config: Config,
    /// How long a request waits for a free one.
    patience: Duration,
    state: Mutex<PoolState>,
    given_back: Condvar,
    random: AtomicU64,
}

#[derive(Debug)]
struct PoolState {
    idle: Vec<Connection>,
    /// Those that may still be made.
    left: usize,
}

struct Connection {
    client: Client,
    world: Statement,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of at most `size` connections, for each of which a request waits as long as
    /// `patience`, and for an answer as long.
    pub fn new(mut config: Config, size: usize, patience: Duration) -> Self {
        // The server gives a query up that nobody waits for any more.
        let limit = format!("-c statement_timeout={}", patience.as_millis());
        config.options(&limit).connect_timeout(patience);
        Self {
            config,
            patience,
            state: Mutex::new(PoolState {
                idle: Vec::new(),
                left: size,
            }),
            given_back: Condvar::new(),
            random: AtomicU64::new(std::process::id().into()),
        }
    }

    /// Some rows at random, each by a query of its own.
    ///
    /// # Errors
    ///
    /// Why there are none, for people.
    pub fn worlds(&self, rows: usize) -> Result<Vec<World>, String> {
        let mut lent = self.take()?;
        let connection = lent.connection.as_mut().expect("there until it is dropped");
        let mut one = || {
            let row = connection
                .client
                .query_one(&connection.world, &[&self.random_id()])
                .map_err(words)?;
            let world = World {
                id: row.get(0),
                number: row.get(1),
            };
            Ok(world)
        };
        (0..rows).map(|_| one()).collect()
    }

    /// One that nobody uses, a new one, or one that is given back in time.
    fn take(&self) -> Result<Lent<'_>, String> {
        let state = self.state();
        let none = |state: &mut PoolState| state.idle.is_empty() && state.left == 0;
        let (mut state, waited) = self
            .given_back
            .wait_timeout_while(state, self.patience, none)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err("all connections to the database are taken".into());
        }
        let mut lent = Lent {
            pool: self,
            connection: state.idle.pop(),
        };
        if lent.connection.is_none() {
            // From here on `lent` gives back either a connection or the right to make it.
            state.left -= 1;
            drop(state);
            lent.connection = Some(self.connect().map_err(words)?);
        }
        Ok(lent)
    }

    fn connect(&self) -> Result<Connection, postgres::Error> {
        let mut client = self.config.connect(NoTls)?;
        let world = client.prepare("SELECT id, randomnumber FROM world WHERE id = $1")?;
        Ok(Connection { client, world })
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        // Nothing that panics is done under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// SplitMix64 of a counter.
    fn random_id(&self) -> i32 {
        let step = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.random.fetch_add(step, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % ROWS) as i32 + 1
    }
}

/// A connection that goes back when it is dropped, unless it is broken: then there may be
/// another.
struct Lent<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let usable = connection.filter(|connection| !connection.client.is_closed());
        let mut state = self.pool.state();
        match usable {
            Some(connection) => state.idle.push(connection),
            None => state.left += 1,
        }
        drop(state);
        self.pool.given_back.notify_one();
    }
}

/// An error with its causes: the crate's own words are only what was tried.
fn words(error: postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Makes the table, filled, where it is not there.
///
/// # Errors
///
/// The server's.
pub fn create_world(client: &mut Client) -> Result<(), postgres::Error> {
    let table = "CREATE TABLE IF NOT EXISTS world (id int PRIMARY KEY, randomnumber int NOT NULL)";
    let rows = format!(
        "INSERT INTO world SELECT i, 1 + (i * 7919) % {ROWS} FROM generate_series(1, {ROWS}) AS i \
         ON CONFLICT DO NOTHING"
    );
    client.batch_execute(&format!("{table}; {rows}; ANALYZE world"))
}
