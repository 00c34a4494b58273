//! What clients that read slowly, or not at all because their process is
//! stopped, cost all others: the same crowd with and without them, in turns.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use crore::JoinHandle;
use socket2::{Domain, Socket, Type};

use super::Process;
use super::client::Crowd;

/// The others.
const CROWD: usize = 2_000;
const PAUSE: Duration = Duration::from_millis(500);
const SLOW: usize = 1_000;
const BUSY: usize = 200;
/// What a slow reader sends: more than the buffers of a connection hold, so
/// that the server must wait to write.
static MUCH: [u8; 1 << 20] = [7; 1 << 20];
/// Its own buffers.
const LITTLE: usize = 8 << 10;
const TURN: Duration = Duration::from_secs(5);

/// A process of slow readers, and of busy clients until it is stopped.
pub(crate) fn bother(port: u16) {
    crore::run(|| {
        let slow: Vec<_> = (0..SLOW).map(|_| slow(port).expect("it listens")).collect();
        let busy = Crowd::gather(port, BUSY, Duration::from_millis(200));
        assert!(
            !slow.iter().any(JoinHandle::is_finished),
            "the server waits for nobody"
        );
        println!("ready");
        crore::park();
        busy.leave();
    })
    .expect("a runtime");
}

/// The coroutine that writes; another reads, slowly.
fn slow(port: u16) -> io::Result<JoinHandle<io::Result<()>>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(LITTLE)?;
    socket.set_send_buffer_size(LITTLE)?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    let mut stream = TcpStream::from(socket);
    let mut reader = stream.try_clone()?;
    crore::spawn(move || {
        while reader.read(&mut [0; 64]).is_ok_and(|count| count > 0) {
            crore::sleep(Duration::from_millis(100));
        }
    });
    Ok(crore::spawn(move || stream.write_all(&MUCH)))
}

fn signal(process: &Process, signal: libc::c_int) {
    let id = process.child.id() as libc::pid_t;
    // SAFETY: a child of ours that was not waited for.
    assert_eq!(unsafe { libc::kill(id, signal) }, 0);
}

/// Runs the crowd in turns: alone, with the others, with the others stopped.
pub(crate) fn compare(seconds: u64) -> ExitCode {
    let server = Process::start(&["serve"]);
    let port: u16 = server.word.parse().expect("its port");
    let mut all = [const { Vec::new() }; 3];
    let tally = crore::run(|| {
        let crowd = Crowd::gather(port, CROWD, PAUSE);
        for _ in 0..(seconds / (3 * TURN.as_secs())).max(1) {
            let mut turn = |of: usize| {
                crowd.begin();
                crore::sleep(TURN);
                all[of].push(crowd.tally().latency.value_at_quantile(0.99));
            };
            turn(0);
            let others = Process::start(&["bother", &port.to_string()]);
            turn(1);
            signal(&others, libc::SIGSTOP);
            turn(2);
            drop(others);
            // The server hears of their end.
            crore::sleep(Duration::from_secs(1));
        }
        crowd.leave()
    })
    .expect("a runtime");
    println!("{tally}");
    // The middle of the turns: whatever else the machine does comes in bursts.
    let p99 = all.map(|mut turns| {
        turns.sort_unstable();
        turns[turns.len() / 2]
    });
    let [alone, slow, stopped] = p99.map(|micros| micros as f64 / p99[0] as f64);
    println!(
        "p99 of {CROWD} others: alone {} µs ({alone:.2}), beside {SLOW} slow readers and {BUSY} \
         busy ones {} µs ({slow:.2}), with those stopped {} µs ({stopped:.2})",
        p99[0], p99[1], p99[2]
    );
    let right = tally.errors == 0 && slow < 2.0 && stopped < 2.0;
    println!(
        "{}",
        if right {
            "less than twice"
        } else {
            "NOT as it must be"
        }
    );
    if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
