//! Clients with an event loop of tokio's inside, in coroutines that are cancelled,
//! late or at the end of `run`: no panic, no abort, and a query in flight ends in
//! time, as if its connection had broken.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crore::Runtime;
use crore_clients::postgres_server;
use postgres::{Client, Config, NoTls};

/// How a coroutine is told to end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Cancel,
    Timeout,
    Run,
}

/// Far more than the machine needs, far less than the query.
const SOON: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(300);

fn connect(server: SocketAddr) -> Client {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(server.port())
        .user("postgres");
    config.connect(NoTls).expect("a connection")
}

/// Runs `work` in a coroutine that is told to end in the midst of it.
fn ended(end: End, own: bool, work: impl FnOnce() + Send + 'static) {
    let runtime = Runtime::builder().own_thread_locals(own).build().unwrap();
    runtime
        .run(move || {
            let builder = crore::Builder::new().stack_size(crore_clients::STACK);
            let one = builder.spawn(move || match end {
                End::Timeout => drop(crore::timeout(MOMENT, work)),
                _ => work(),
            });
            let one = one.unwrap();
            crore::sleep(MOMENT * 2);
            match end {
                End::Cancel => one.cancel(),
                End::Run => return None,
                End::Timeout => {}
            }
            let _ = one.join();
            Some(())
        })
        .unwrap();
}

#[test]
fn a_query_of_postgres_ends_and_its_client_is_dropped() {
    let server = postgres_server(20);
    let address = server.address();
    for end in [End::Cancel, End::Timeout, End::Run] {
        for own in [true, false] {
            ended(end, own, move || {
                let mut client = connect(address);
                let start = Instant::now();
                let query = client.query_one("SELECT 1 FROM pg_sleep(300)", &[]);
                let error = query.map(drop).expect_err("it is ended");
                assert!(start.elapsed() < SOON, "{end:?}");
                // As by the network: an error of the connection.
                assert!(client.is_closed(), "{end:?}: {error:?}");
                assert!(client.query_one("SELECT 1", &[]).is_err());
            });
        }
    }
}

/// The destructor of a client runs its loop once more, while the coroutine unwinds.
#[test]
fn a_client_of_postgres_is_dropped_by_an_unwind() {
    let server = postgres_server(20);
    let address = server.address();
    for end in [End::Cancel, End::Timeout, End::Run] {
        for own in [true, false] {
            ended(end, own, move || {
                let mut client = connect(address);
                assert!(client.query_one("SELECT 1", &[]).is_ok());
                let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                    let _client = client;
                    crore::sleep(SOON * 60);
                }));
                std::panic::resume_unwind(unwound.expect_err("it is ended"));
            });
        }
    }
}
