//! Requests of which many are on their way at once: a few connections, each with a window
//! of requests that have no answer yet.
//!
//! The load is one thread that never sleeps: it goes round its connections, reads and
//! compares what has come, and fills a window as soon as half of it is free. That is less
//! work than a server has, so the server's processor is the limit; where it was not, the
//! figures say how busy it was.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crore_peers::pipelined::{CYCLE, Service};

use crate::contests::{PIPELINED, Pipeline, SERVERS};
use crate::measure::Windows;
use crate::options::Options;
use crate::results::{Figure, Pipelined, PipelinedRow, Spread};
use crate::subjects::Subject;

/// Bytes that are read at once.
const ROOM: usize = 64 << 10;

/// Before the load is measured: the kernel's buffers grow meanwhile.
const WARM_UP: Duration = Duration::from_millis(200);

/// Compares the servers, service by service.
pub(crate) fn run(
    options: &Options,
    mut done: impl FnMut(Pipelined) -> io::Result<()>,
) -> io::Result<()> {
    let wanted = |pipeline: &&Pipeline| pipeline.title.contains(&options.only);
    for pipeline in PIPELINED.iter().filter(wanted) {
        done(compare(pipeline, options)?)?;
    }
    Ok(())
}

fn compare(pipeline: &Pipeline, options: &Options) -> io::Result<Pipelined> {
    let mut servers = options.among(SERVERS);
    servers.retain(|server| server.has_services());
    let script = Script::new(pipeline.service, pipeline.in_flight);
    let mut samples: Vec<Samples> = servers.iter().map(|_| Samples::default()).collect();
    for round in 0..options.rounds {
        for turn in 0..servers.len() {
            // Each server is first in some round.
            let at = (turn + round) % servers.len();
            samples[at]
                .run(servers[at], pipeline, &script, options.load)
                .map_err(|e| io::Error::other(format!("{}: {e}", servers[at].name)))?;
        }
    }
    let rows = servers
        .iter()
        .zip(&samples)
        .map(|(server, own)| PipelinedRow {
            name: server.name.into(),
            cpu_us: Figure::new(&own.cpu_us, &samples[0].cpu_us),
            requests_per_second: Figure::new(&own.per_second, &samples[0].per_second),
            busy: Spread::of(own.busy.iter().copied()),
        });
    Ok(Pipelined {
        title: pipeline.title.into(),
        connections: pipeline.connections,
        in_flight: pipeline.in_flight,
        rounds: options.rounds,
        seconds: options.load.as_secs_f64(),
        rows: rows.collect(),
    })
}

/// What the runs of one server came to, a value for each.
#[derive(Default)]
struct Samples {
    cpu_us: Vec<f64>,
    per_second: Vec<f64>,
    busy: Vec<f64>,
}

impl Samples {
    fn run(
        &mut self,
        server: &Subject,
        pipeline: &Pipeline,
        script: &Script,
        load: Duration,
    ) -> io::Result<()> {
        let (running, addr) = server.pipelined(pipeline.service)?;
        let mut connections = (0..pipeline.connections)
            .map(|_| Connection::open(addr))
            .collect::<io::Result<Vec<_>>>()?;
        drive(&mut connections, script, WARM_UP, &mut |_, _| ())?;
        let before = answered(&connections, script);
        let mut windows = Windows::of(running.pid)?;
        let start = Instant::now();
        drive(&mut connections, script, load, &mut |at, requests| {
            windows.look(at, requests);
        })?;
        let elapsed = start.elapsed().as_secs_f64();
        let requests = answered(&connections, script) - before;
        let cost = windows.end()?;
        self.cpu_us.push(cost.cpu_us);
        self.busy.push(cost.busy);
        self.per_second.push(requests as f64 / elapsed);
        Ok(())
    }
}

/// Keeps the windows full for so long, and says now and then how far it is.
fn drive(
    connections: &mut [Connection],
    script: &Script,
    load: Duration,
    watch: &mut dyn FnMut(Duration, u64),
) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);

    let mut buffer = vec![0; ROOM];
    let (start, mut heard) = (Instant::now(), Instant::now());
    loop {
        for _ in 0..16 {
            for connection in &mut *connections {
                connection.write(script)?;
                if connection.read(script, &mut buffer)? {
                    heard = Instant::now();
                }
            }
        }
        let elapsed = start.elapsed();
        watch(elapsed, answered(connections, script));
        if elapsed >= load {
            return Ok(());
        }
        if heard.elapsed() > PATIENCE {
            return Err(io::Error::other("no answer within ten seconds"));
        }
    }
}

fn answered(connections: &[Connection], script: &Script) -> u64 {
    let all = connections.iter().map(|it| it.received / script.answer);
    all.sum()
}

/// The bytes of a cycle of requests and of their answers, with as many more as may be
/// wanted at once.
struct Script {
    requests: Vec<u8>,
    answers: Vec<u8>,
    /// Bytes of one request, and of one answer.
    request: u64,
    answer: u64,
    in_flight: u64,
}

impl Script {
    fn new(service: Service, in_flight: usize) -> Self {
        let (mut requests, mut answers) = (Vec::new(), Vec::new());
        let (request, answer) = service.example(0);
        let more = in_flight.max(ROOM / answer.len() + 1);
        for at in 0..CYCLE + more {
            let (request, answer) = service.example(at % CYCLE);
            requests.extend(request);
            answers.extend(answer);
        }
        Self {
            requests,
            answers,
            request: request.len() as u64,
            answer: answer.len() as u64,
            in_flight: in_flight as u64,
        }
    }
}

/// One connection: bytes so far.
struct Connection {
    stream: TcpStream,
    /// What is to be sent, as far as the window goes.
    wanted: u64,
    sent: u64,
    received: u64,
}

impl Connection {
    fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            wanted: 0,
            sent: 0,
            received: 0,
        })
    }

    /// Fills the window, if half of it is free, as far as the kernel takes it now.
    fn write(&mut self, script: &Script) -> io::Result<()> {
        let window = (self.received / script.answer + script.in_flight) * script.request;
        if window - self.wanted >= script.in_flight.div_ceil(2) * script.request {
            self.wanted = window;
        }
        if self.sent == self.wanted {
            return Ok(());
        }
        let from = (self.sent % (CYCLE as u64 * script.request)) as usize;
        let bytes = &script.requests[from..from + (self.wanted - self.sent) as usize];
        self.sent += taken(self.stream.write(bytes))? as u64;
        Ok(())
    }

    /// Reads and compares what has come; whether anything has.
    fn read(&mut self, script: &Script, buffer: &mut [u8]) -> io::Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            count => taken(count)?,
        };
        let from = (self.received % (CYCLE as u64 * script.answer)) as usize;
        if script.answers[from..from + count] != buffer[..count] {
            return Err(io::Error::new(ErrorKind::InvalidData, "a wrong answer"));
        }
        self.received += count as u64;
        Ok(count > 0)
    }
}

/// How many bytes: none, if it would have to wait.
fn taken(count: io::Result<usize>) -> io::Result<usize> {
    match count {
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        count => count,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use crore_peers::serve::pipelined::threads;

    use super::*;

    fn driven(served: Service, asked: Service) -> io::Result<u64> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        thread::spawn(move || threads(listener, served));
        let script = Script::new(asked, 16);
        let mut connections = [Connection::open(server)?, Connection::open(server)?];
        drive(&mut connections, &script, WARM_UP, &mut |_, _| ())?;
        for connection in &connections {
            let most = script.in_flight * script.request;
            assert!(connection.sent - connection.received / script.answer * script.request <= most);
        }
        Ok(answered(&connections, &script))
    }

    #[test]
    fn answers_are_counted_and_wrong_ones_seen() {
        for service in Service::ALL {
            assert!(driven(service, service).unwrap() > 0, "{service:?}");
        }
        let wrong = driven(Service::Stream, Service::Get).unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::InvalidData);
    }
}
