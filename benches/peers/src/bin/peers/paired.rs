//! All servers at once, and the load goes round: a tenth of a second for each
//! in turn, so that each is compared with the yardstick a moment later. What
//! the rest of the machine does changes more slowly than that.
//!
//! Each server has a driver in a thread of its own, which stands still where
//! it reports its progress unless it is its turn. The server is idle then: all
//! of its connections wait. So the latencies of this load mean nothing.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::contests::SERVERS;
use crate::drive::Progress;
use crate::measure::{CpuClock, drive, enough_files};
use crate::options::Options;

/// How long one server is under load.
const TURN: Duration = Duration::from_millis(100);
/// How long a driver that was stopped may take to stand still.
const PAUSE: Duration = Duration::from_millis(10);

/// Whose turn it is.
struct Turns {
    now: Mutex<Turn>,
    changed: Condvar,
    /// Drivers that have connected.
    ready: AtomicUsize,
    /// Requests so far, by server.
    requests: Vec<AtomicU64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Nobody,
    Server(usize),
    /// It is over.
    Everybody,
}

impl Turns {
    fn set(&self, turn: Turn) {
        *self.now.lock().expect("no driver panics with it") = turn;
        self.changed.notify_all();
    }

    fn wait(&self, server: usize) {
        let now = self.now.lock().expect("as above");
        let stop = |now: &mut Turn| *now != Turn::Server(server) && *now != Turn::Everybody;
        drop(self.changed.wait_while(now, stop));
    }
}

/// Processor time of a request by round, then by server, in microseconds: of the
/// rounds in which every server has served.
pub(crate) fn run(connections: usize, options: &Options) -> io::Result<Vec<Vec<f64>>> {
    let subjects = options.among(SERVERS);
    let servers = subjects.len();
    enough_files(servers * connections)?;
    let rounds = options.rounds * (options.load.as_millis() / TURN.as_millis()) as usize;
    let turns = Turns {
        now: Mutex::new(Turn::Nobody),
        changed: Condvar::new(),
        ready: AtomicUsize::new(0),
        requests: (0..servers).map(|_| AtomicU64::new(0)).collect(),
    };
    // The drivers' clocks go on while they stand still.
    let load = (TURN + 2 * PAUSE) * (rounds * servers) as u32 + Duration::from_secs(1);
    let size = options.sizes[0];
    let started = subjects
        .iter()
        .map(|server| server.serve(None))
        .collect::<io::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let drivers: Vec<_> = started
            .iter()
            .enumerate()
            .map(|(at, (_, addr))| {
                let turns = &turns;
                scope.spawn(move || {
                    let mut first = true;
                    let watch = &mut |progress| {
                        if let Progress::Loading(_, requests) = progress {
                            turns.requests[at].store(requests, Ordering::Relaxed);
                            if std::mem::take(&mut first) {
                                turns.ready.fetch_add(1, Ordering::Relaxed);
                            }
                            turns.wait(at);
                        }
                    };
                    drive(*addr, connections, size, load, None, watch)
                })
            })
            .collect();
        // Before the load, only a driver that has failed is finished.
        let over = || drivers.iter().any(|driver| driver.is_finished());
        while turns.ready.load(Ordering::Relaxed) < servers && !over() {
            thread::sleep(PAUSE);
        }
        let mut clocks = started
            .iter()
            .map(|(running, _)| CpuClock::of(running.pid))
            .collect::<io::Result<Vec<_>>>()?;
        let mut samples = Vec::new();
        for _ in 0..rounds {
            // On a busy machine turns take longer, and the drivers' time is over
            // before all rounds are.
            if over() {
                break;
            }
            let mut round = Vec::new();
            for (at, clock) in clocks.iter_mut().enumerate() {
                let before = turns.requests[at].load(Ordering::Relaxed);
                clock.used();
                turns.set(Turn::Server(at));
                thread::sleep(TURN);
                turns.set(Turn::Nobody);
                thread::sleep(PAUSE);
                let served = turns.requests[at].load(Ordering::Relaxed) - before;
                let used = clock.used();
                if served > 0 {
                    round.push(used.as_secs_f64() * 1e6 / served as f64);
                }
            }
            // Who has served nothing can't be compared.
            if round.len() == servers {
                samples.push(round);
            }
        }
        turns.set(Turn::Everybody);
        for driver in drivers {
            driver.join().expect("a driver reports its errors")?;
        }
        if samples.is_empty() {
            return Err(io::Error::other(
                "the machine is too busy: in no round did every server get its turn",
            ));
        }
        Ok(samples)
    })
}
