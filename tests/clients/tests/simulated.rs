//! Unmodified client crates in simulations: their connections, time limits and
//! reconnects, by seeds, while the network fails and servers crash.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crore::sim::{self, Faults};
use tungstenite::Message;

const SECOND: Duration = Duration::from_secs(1);

/// As many seeds as a gate has time for.
const SEEDS: std::ops::Range<u64> = 0..40;

/// Calls `serve` for each connection, in a thread.
fn listen(port: u16, serve: impl Fn(TcpStream) + Copy + Send + 'static) {
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        thread::spawn(move || serve(stream));
    }
}

/// A server of Redis's protocol: `SET`, `GET`, `INCR`, and `OK` to all else.
fn redis_server() {
    listen(6379, |stream| {
        let mut store = HashMap::<Vec<u8>, i64>::new();
        let mut reader = BufReader::new(&stream);
        while let Some(words) = command(&mut reader) {
            let key = words.get(1).cloned().unwrap_or_default();
            let answer = match words[0].to_ascii_uppercase().as_slice() {
                b"INCR" => {
                    let value = store.entry(key).or_default();
                    *value += 1;
                    format!(":{value}\r\n")
                }
                b"GET" => match store.get(&key) {
                    Some(value) => format!("${}\r\n{value}\r\n", value.to_string().len()),
                    None => "$-1\r\n".into(),
                },
                b"PING" => "+PONG\r\n".into(),
                _ => "+OK\r\n".into(),
            };
            if (&stream).write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
}

/// The words of a command.
fn command(reader: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let number = |reader: &mut dyn BufRead| {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        line.get(1..)?.trim_end().parse::<usize>().ok()
    };
    let count = number(reader)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; number(reader)? + 2];
        reader.read_exact(&mut word).ok()?;
        word.truncate(word.len() - 2);
        words.push(word);
    }
    (!words.is_empty()).then_some(words)
}

/// A client that asks on, whatever breaks: what it is told is in order.
#[test]
fn redis_counts_on_while_its_server_crashes() {
    sim::check(SEEDS, |sim| {
        let faults = Faults::within(20 * SECOND).lasting(3 * SECOND);
        sim.faults(faults.crashes(2).partitions(2).resets(3))
            .node("redis", redis_server)
            .client("client", || {
                let client = redis::Client::open("redis://redis:6379/").unwrap();
                let (mut done, mut errors) = (0, 0);
                while done < 40 {
                    let Ok(mut connection) = client.get_connection_with_timeout(SECOND) else {
                        errors += 1;
                        thread::sleep(SECOND / 10);
                        continue;
                    };
                    connection.set_read_timeout(Some(SECOND)).unwrap();
                    let mut last = 0;
                    while done < 40 {
                        let Ok(count) = redis::cmd("INCR").arg("n").query::<i64>(&mut connection)
                        else {
                            errors += 1;
                            break;
                        };
                        assert_eq!(count, last + 1, "an answer of another question");
                        (last, done) = (count, done + 1);
                        thread::sleep(SECOND);
                    }
                }
                assert!(errors < 1_000);
            })
            .run();
    });
}

#[test]
fn a_pool_of_redis_connections_mends_itself() {
    struct Manager(redis::Client);
    impl r2d2::ManageConnection for Manager {
        type Connection = redis::Connection;
        type Error = redis::RedisError;
        fn connect(&self) -> Result<redis::Connection, redis::RedisError> {
            let connection = self.0.get_connection_with_timeout(SECOND)?;
            connection.set_read_timeout(Some(SECOND))?;
            Ok(connection)
        }
        fn is_valid(&self, connection: &mut redis::Connection) -> Result<(), redis::RedisError> {
            redis::cmd("PING").query(connection)
        }
        fn has_broken(&self, _: &mut redis::Connection) -> bool {
            false
        }
    }
    sim::check(SEEDS, |sim| {
        let faults = Faults::within(30 * SECOND).lasting(3 * SECOND);
        sim.faults(faults.crashes(2).partitions(2).resets(3))
            .node("redis", redis_server)
            .client("client", || {
                thread::sleep(SECOND);
                let manager = Manager(redis::Client::open("redis://redis:6379/").unwrap());
                let builder = r2d2::Pool::builder().max_size(4).min_idle(Some(0));
                let pool = builder
                    .connection_timeout(20 * SECOND)
                    .build_unchecked(manager);
                let asks = |pool: r2d2::Pool<Manager>| {
                    move || {
                        for _ in 0..20 {
                            let mut one = pool.get().expect("in twenty seconds there is one");
                            // A connection that breaks just now is the caller's.
                            let _ = redis::cmd("INCR").arg("n").query::<i64>(&mut *one);
                            drop(one);
                            thread::sleep(SECOND);
                        }
                    }
                };
                let all: Vec<_> = (0..8).map(|_| thread::spawn(asks(pool.clone()))).collect();
                all.into_iter().for_each(|one| one.join().unwrap());
                assert!(pool.state().connections <= 4);
            })
            .run();
    });
}

#[test]
fn ureq_keeps_its_time_limits() {
    sim::check(SEEDS, |sim| {
        sim.node("web", || {
            listen(80, |stream| {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                while let Some(request) = lines.next() {
                    lines.by_ref().find(String::is_empty);
                    if request.contains("/slow") {
                        thread::sleep(60 * SECOND);
                    }
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if (&stream).write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        })
        .client("client", || {
            thread::sleep(SECOND);
            let config = ureq::Agent::config_builder().timeout_global(Some(10 * SECOND));
            let agent = ureq::Agent::new_with_config(config.build());
            let mut answer = agent.get("http://web/").call().unwrap();
            assert_eq!(answer.body_mut().read_to_string().unwrap(), "ok");
            let began = Instant::now();
            let error = agent.get("http://web/slow").call().unwrap_err();
            assert!(matches!(error, ureq::Error::Timeout(_)), "{error}");
            let waited = began.elapsed();
            assert!(waited >= 10 * SECOND && waited < 11 * SECOND, "{waited:?}");
            sim::cut("client", "web");
            let began = Instant::now();
            assert!(agent.get("http://web/").call().is_err());
            assert!(began.elapsed() < 11 * SECOND, "{:?}", began.elapsed());
            sim::heal("client", "web");
            assert!(agent.get("http://web/").call().is_ok());
        })
        .run();
    });
}

#[test]
fn websockets_echo_and_hear_of_a_crash() {
    sim::check(SEEDS, |sim| {
        sim.preempt(0.01)
            .node("server", || {
                listen(80, |stream| {
                    let Ok(mut socket) = tungstenite::accept(stream) else {
                        return;
                    };
                    while let Ok(message) = socket.read() {
                        if message.is_text() && socket.send(message).is_err() {
                            return;
                        }
                    }
                });
            })
            .client("client", || {
                thread::sleep(SECOND);
                let (mut socket, _) = tungstenite::connect("ws://server/").unwrap();
                for round in 0..20 {
                    let sent = Message::text("é".repeat(round * 500));
                    socket.send(sent.clone()).unwrap();
                    assert_eq!(socket.read().unwrap(), sent);
                }
                sim::crash("server");
                let error = socket.read().unwrap_err();
                let is_reset = |error: &tungstenite::Error| match error {
                    tungstenite::Error::Io(error) => error.kind() == ErrorKind::ConnectionReset,
                    tungstenite::Error::Protocol(_) => true,
                    _ => false,
                };
                assert!(is_reset(&error), "{error}");
            })
            .run();
    });
}

/// The certificate's dates are looked at by the simulation's clock.
#[test]
fn tls_is_spoken_by_the_simulations_clock_and_chance() {
    let key = rcgen::generate_simple_self_signed(["server".to_owned()]).unwrap();
    let certificate = key.cert.der().clone();
    let secret = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], secret.into())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (server, client) = (Arc::new(server), Arc::new(client));
    sim::check(0..10, |sim| {
        let (server, client) = (Arc::clone(&server), Arc::clone(&client));
        sim.node("server", move || {
            let listener = TcpListener::bind("0.0.0.0:443").unwrap();
            for stream in listener.incoming() {
                let session = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
                let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
                let mut word = [0; 5];
                stream.read_exact(&mut word).unwrap();
                stream.write_all(&word).unwrap();
            }
        })
        .client("client", move || {
            thread::sleep(SECOND);
            let name = "server".try_into().unwrap();
            let session = rustls::ClientConnection::new(Arc::clone(&client), name).unwrap();
            let stream = TcpStream::connect("server:443").unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream);
            stream.write_all(b"hello").unwrap();
            let mut word = [0; 5];
            stream.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"hello");
        })
        .run();
    });
}

#[test]
fn postgres_gives_up_on_a_server_that_does_not_answer() {
    sim::check(SEEDS, |sim| {
        sim.node("database", || {
            listen(5432, |stream| {
                let _ = (&stream).read(&mut [0; 100]);
                thread::sleep(100 * SECOND);
            });
        })
        .client("client", || {
            thread::sleep(SECOND);
            let mut config = postgres::Config::new();
            config
                .host("nobody")
                .user("one")
                .connect_timeout(5 * SECOND);
            assert!(config.connect(postgres::NoTls).is_err());
            let mut config = postgres::Config::new();
            config.host("database").port(5433).user("one");
            let began = Instant::now();
            assert!(config.connect(postgres::NoTls).is_err());
            assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
        })
        .run();
    });
}
