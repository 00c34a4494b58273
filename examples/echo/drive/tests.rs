//! The driver against servers of one thread per connection: a right one, and
//! one for each way of being wrong.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::*;

/// Answers what connection number `n` got; false closes the connection.
type Answer = fn(n: usize, stream: &mut TcpStream, bytes: &[u8]) -> bool;

fn serve(answer: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer)
                    && answer(n, &mut stream, &buffer[..count])
                {}
            });
        }
    });
    addr
}

fn run(server: SocketAddr, connections: usize, size: usize) -> Report {
    run_for(Duration::from_millis(200), server, connections, size)
}

fn run_for(load: Duration, server: SocketAddr, connections: usize, size: usize) -> Report {
    let config = Config {
        server,
        connections,
        load,
        size,
        server_pid: None,
        spins: false,
    };
    drive(&config, &mut |_| {}).unwrap()
}

fn echo(_: usize, stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

#[test]
fn a_right_server_makes_no_errors() {
    for (connections, size) in [(1, 1), (150, 64), (3, 10_000), (2, MAX_SIZE)] {
        // A busy machine may need longer until something has come back.
        let report = [100, 1_000, 10_000]
            .into_iter()
            .map(|millis| {
                let load = Duration::from_millis(millis);
                let report = run_for(load, serve(echo), connections, size);
                assert_eq!(report.errors, BTreeMap::new());
                assert_eq!(report.connections, connections);
                report
            })
            .find(|report| report.requests > 0);
        let report = report.unwrap_or_else(|| panic!("{connections} connections, {size} bytes"));
        // Those on their way at the end are measured, but not in the rate.
        let measured = report.latency.len();
        assert_eq!(
            measured,
            report.requests + connections as u64,
            "{connections} connections, {size} bytes"
        );
        // Two trips through the kernel take microseconds.
        let bounds = (report.latency.min(), report.latency.max());
        assert!(
            bounds.0 > 1_000 && bounds.1 < 10_000_000_000,
            "{bounds:?} ns"
        );
    }
}

#[test]
fn the_server_process_is_measured() {
    let config = Config {
        server: serve(echo),
        connections: 20,
        load: Duration::from_millis(100),
        size: 64,
        server_pid: Some(std::process::id()),
        spins: false,
    };
    let report = drive(&config, &mut |_| {}).unwrap();
    assert_eq!(report.errors, BTreeMap::new());
    let server = report.server.unwrap();
    // Which of them is more depends on the other tests of this process.
    assert!(server.before > 0 && server.idle > 0, "{server:?}");
}

#[test]
fn progress_counts_up_to_the_end() {
    let config = Config {
        server: serve(echo),
        connections: 100,
        load: Duration::from_millis(100),
        size: 64,
        server_pid: None,
        spins: false,
    };
    let (mut connected, mut over) = (Vec::new(), Vec::new());
    drive(&config, &mut |progress| match progress {
        Progress::Connecting(count) => connected.push(count),
        Progress::Loading(elapsed, _) => over.push(elapsed),
    })
    .unwrap();
    assert!(
        connected.is_sorted() && connected.last() == Some(&100),
        "{connected:?}"
    );
    assert!(
        over.is_sorted() && over.last() >= Some(&config.load),
        "{over:?}"
    );
}

/// Runs ten connections, of which number 3 meets `fault`, and returns the errors.
fn errors(fault: Answer) -> Vec<(String, u64)> {
    let report = run(serve(fault), 10, 64);
    assert!(!report.latency.is_empty(), "the nine others go on");
    report.errors.into_iter().collect()
}

#[test]
fn a_changed_byte_is_an_error() {
    let errors = errors(|n, stream, bytes| {
        let mut bytes = bytes.to_vec();
        bytes[63] ^= u8::from(n == 3);
        stream.write_all(&bytes).is_ok()
    });
    assert_eq!(
        errors,
        [("connecting: other bytes came back than were sent".into(), 1)]
    );
}

#[test]
fn a_doubled_byte_is_an_error() {
    let errors = errors(|n, stream, bytes| {
        let mut bytes = bytes.to_vec();
        if n == 3 {
            bytes.push(bytes[63]);
        }
        stream.write_all(&bytes).is_ok()
    });
    assert_eq!(
        errors,
        [("connecting: more bytes came back than were sent".into(), 1)]
    );
}

#[test]
fn the_bytes_of_another_connection_are_an_error() {
    let errors = errors(|n, stream, bytes| {
        let other = Pattern::new(64).message(Pattern::start(5)).to_vec();
        stream
            .write_all(if n == 3 { &other } else { bytes })
            .is_ok()
    });
    assert_eq!(
        errors,
        [("connecting: other bytes came back than were sent".into(), 1)]
    );
}

#[test]
fn a_closed_connection_is_an_error() {
    let errors = errors(|n, stream, bytes| n != 3 && stream.write_all(bytes).is_ok());
    assert_eq!(
        errors,
        [("connecting: the server closed the connection".into(), 1)]
    );
}

#[test]
fn nobody_listening_is_an_error_for_each() {
    // Taken, so that nobody else can listen there.
    let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    taken.bind(&any.into()).unwrap();
    let refusing = taken.local_addr().unwrap().as_socket().unwrap();
    let report = run(refusing, 10, 64);
    assert_eq!((report.connections, report.requests), (0, 0));
    let (why, count) = report.errors.first_key_value().unwrap();
    assert!(why.starts_with("connecting: Connection refused"), "{why}");
    assert_eq!((*count, report.errors.len()), (10, 1));
}

#[test]
fn silence_is_an_error() {
    let errors_within = |patience: Duration| {
        let config = Config {
            server: serve(|n, stream, bytes| n == 3 || stream.write_all(bytes).is_ok()),
            connections: 5,
            load: Duration::from_millis(1),
            size: 64,
            server_pid: None,
            spins: false,
        };
        let watch = &mut |_| {};
        let mut driver = Driver::new(&config, watch).unwrap();
        driver.patience = patience;
        driver.connect(5);
        let errors: Vec<_> = driver.errors.into_iter().collect();
        let [(why, silent)] = &errors[..] else {
            panic!("{errors:?}")
        };
        assert_eq!(*why, format!("connecting: no reply within {patience:?}"));
        *silent
    };
    // On a busy machine the other four need longer to be heard.
    let silent = [200, 2_000, 20_000].map(Duration::from_millis);
    let silent = silent.into_iter().map(errors_within).find(|&n| n == 1);
    assert_eq!(silent, Some(1));
}
