//! A crowd of clients, each a coroutine with a connection: it talks, checks
//! every byte, pauses, and now and then closes, or resets in the middle of a
//! word, and comes again.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crore::JoinHandle;
use crore::sync::Semaphore;
use hdrhistogram::Histogram;
use socket2::SockRef;

/// Bytes of the longest request.
const LONGEST: u64 = 8_192;
/// Connections that are being made at a time.
const KNOCKING: usize = 200;
/// Of so many requests one is followed by a close, and one by a reset.
const CHURN: u64 = 60;
/// Reports of errors that are printed.
const REPORTS: u64 = 10;

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % n
    }
}

/// What has happened.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) connections: u64,
    pub(crate) resets: u64,
    pub(crate) errors: u64,
    /// Of a request and its echo, in microseconds.
    pub(crate) latency: Histogram<u64>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |quantile| self.latency.value_at_quantile(quantile);
        write!(
            f,
            "{} requests, {} MB checked, {} connections, {} resets, {} errors, \
             p50 {} µs, p99 {} µs",
            self.requests,
            self.bytes / 1_000_000,
            self.connections,
            self.resets,
            self.errors,
            at(0.5),
            at(0.99)
        )
    }
}

struct World {
    port: u16,
    pause: Duration,
    stop: Cell<bool>,
    door: Semaphore,
    tally: RefCell<Tally>,
}

pub(crate) struct Crowd {
    world: Rc<World>,
    clients: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Returns when all have had an answer.
    pub(crate) fn gather(port: u16, count: usize, pause: Duration) -> Self {
        let world = Rc::new(World {
            port,
            pause,
            stop: Cell::new(false),
            door: Semaphore::new(KNOCKING),
            tally: RefCell::new(Tally {
                requests: 0,
                bytes: 0,
                connections: 0,
                resets: 0,
                errors: 0,
                latency: Histogram::new(3).expect("three digits"),
            }),
        });
        let client = |i| {
            let world = Rc::clone(&world);
            crore::spawn_local(move || world.client(i as u64))
        };
        let clients = (0..count).map(client).collect();
        while world.tally.borrow().connections < count as u64 {
            crore::sleep(Duration::from_millis(10));
        }
        Self { world, clients }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.world.tally.borrow().clone()
    }

    /// Forgets the latencies so far.
    pub(crate) fn begin(&self) {
        self.world.tally.borrow_mut().latency.reset();
    }

    pub(crate) fn leave(self) -> Tally {
        self.world.stop.set(true);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        self.world.tally.borrow().clone()
    }
}

/// How a visit ended.
enum End {
    Closed,
    Reset,
}

impl World {
    fn client(&self, index: u64) {
        let mut random = Random::new(index);
        while !self.stop.get() {
            let visit = self.visit(&mut random);
            let mut tally = self.tally.borrow_mut();
            match visit {
                Ok(End::Closed) => {}
                Ok(End::Reset) => tally.resets += 1,
                Err(error) => {
                    tally.errors += 1;
                    if tally.errors <= REPORTS {
                        eprintln!("client {index}: {error}");
                    }
                }
            }
        }
    }

    /// From the connecting to the end of the connection.
    fn visit(&self, random: &mut Random) -> io::Result<End> {
        let door = self.door.acquire(1).expect("never closed");
        // Many addresses, so that those of closed connections may rest.
        let host = Ipv4Addr::new(127, 0, 0, 1 + random.below(16) as u8);
        let mut stream = TcpStream::connect((host, self.port))?;
        stream.set_nodelay(true)?;
        let salt = random.below(251);
        let mut place = 0;
        self.exchange(&mut stream, random, salt, &mut place)?;
        self.tally.borrow_mut().connections += 1;
        drop(door);
        loop {
            let most = 2 * self.pause.as_micros() as u64;
            let until = Instant::now() + Duration::from_micros(random.below(most));
            while Instant::now() < until && !self.stop.get() {
                let left = until.saturating_duration_since(Instant::now());
                crore::sleep(left.min(Duration::from_secs(1)));
            }
            match random.below(CHURN) {
                0 => break,
                1 => {
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                    stream.write_all(&vec![7; random.below(LONGEST) as usize])?;
                    return Ok(End::Reset);
                }
                _ if self.stop.get() => break,
                _ => self.exchange(&mut stream, random, salt, &mut place)?,
            }
        }
        stream.shutdown(Shutdown::Write)?;
        match stream.read(&mut [0])? {
            0 => Ok(End::Closed),
            _ => Err(io::Error::other("more than was sent")),
        }
    }

    /// Sends some bytes and reads them back.
    fn exchange(
        &self,
        stream: &mut TcpStream,
        random: &mut Random,
        salt: u64,
        place: &mut u64,
    ) -> io::Result<()> {
        let len = 1 + random.below(LONGEST);
        let byte = |place: u64| (place * 31 + (place >> 8) + salt) as u8;
        let bytes: Vec<u8> = (*place..*place + len).map(byte).collect();
        let start = Instant::now();
        stream.write_all(&bytes)?;
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back)?;
        let took = start.elapsed().as_micros() as u64;
        if back != bytes {
            return Err(io::Error::other("other bytes than were sent"));
        }
        *place += len;
        let mut tally = self.tally.borrow_mut();
        tally.requests += 1;
        tally.bytes += len;
        tally.latency.record(took).map_err(io::Error::other)
    }
}
