//! The crate `postgres`, and pools of its connections, where coroutines have
//! thread-locals of their own: each is a thread to the tokio inside of it.
//! What it does without them is in `postgres.rs`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crore_clients::{each, like_threads, overlapped, postgres_server, spread_crowd};
use postgres::{Client, Config, NoTls};
use r2d2_postgres::PostgresConnectionManager;

/// Each is a process of the server.
const CONNECTIONS: usize = 100;

fn config(server: SocketAddr) -> Config {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(server.port())
        .user("postgres");
    config
}

fn connect(server: SocketAddr) -> Client {
    config(server).connect(NoTls).expect("a connection")
}

/// A connection for each. The server counts who waits before it lets them go.
fn all_wait_at_one_time(workers: usize) {
    let server = postgres_server(CONNECTIONS + 20);
    like_threads(workers, || {
        let address = server.address();
        let mut holder = connect(address);
        let lock = "SELECT 1 FROM pg_advisory_lock(7)";
        holder.query_one(lock, &[]).unwrap();
        let helper = crore::spawn(move || {
            let waiting =
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
            loop {
                let row = holder.query_one(waiting, &[]).unwrap();
                if row.get::<_, i64>(0) == CONNECTIONS as i64 {
                    break;
                }
                crore::sleep(Duration::from_millis(10));
            }
            holder
                .query_one("SELECT pg_advisory_unlock(7)", &[])
                .unwrap();
        });
        let (squares, _) = spread_crowd(CONNECTIONS, move |i| {
            let mut client = connect(address);
            let square = "SELECT $1::int * $1::int FROM pg_advisory_lock_shared(7)";
            let row = client.query_one(square, &[&(i as i32)]).unwrap();
            row.get::<_, i32>(0)
        });
        each(&squares, |i| (i * i) as i32);
        helper.join().unwrap();
    });
}

#[test]
fn all_wait_at_one_time_on_one_thread() {
    all_wait_at_one_time(1);
}

#[test]
fn all_wait_at_one_time_on_several() {
    all_wait_at_one_time(3);
}

/// A thousand queries on a pool with a connection for every tenth of them.
fn a_thousand_share_a_pool(workers: usize) {
    const QUERIES: usize = 1000;
    let server = postgres_server(CONNECTIONS + 20);
    like_threads(workers, || {
        let manager = PostgresConnectionManager::new(config(server.address()), NoTls);
        let pool = r2d2::Pool::builder()
            .max_size(CONNECTIONS as u32)
            .connection_timeout(Duration::from_secs(600))
            .build(manager)
            .unwrap();
        let (answers, took) = spread_crowd(QUERIES, move |i| {
            let mut client = pool.get().unwrap();
            let wait = "SELECT $1::int FROM pg_sleep(0.1)";
            let row = client.query_one(wait, &[&(i as i32)]).unwrap();
            row.get::<_, i32>(0)
        });
        each(&answers, |i| i as i32);
        let what = format!("postgres pg_sleep, {CONNECTIONS} connections, {workers} workers");
        overlapped(&what, QUERIES, took);
    });
}

#[test]
fn a_thousand_share_a_pool_on_one_thread() {
    a_thousand_share_a_pool(1);
}

#[test]
fn a_thousand_share_a_pool_on_several() {
    a_thousand_share_a_pool(3);
}

/// std's own lock, held while a query of a transaction waits.
#[test]
fn one_client_behind_a_lock_of_std() {
    let server = postgres_server(20);
    like_threads(1, || {
        let mut client = connect(server.address());
        client.batch_execute("CREATE TABLE seen (n int)").unwrap();
        let client = Arc::new(Mutex::new(client));
        let (mut before, _) = spread_crowd(50, move |i| {
            let mut client = client.lock().unwrap();
            let mut both = client.transaction().unwrap();
            let count = "SELECT count(*) FROM seen";
            let before: i64 = both.query_one(count, &[]).unwrap().get(0);
            let insert = "INSERT INTO seen VALUES ($1)";
            both.execute(insert, &[&(i as i32)]).unwrap();
            both.commit().unwrap();
            before
        });
        before.sort_unstable();
        each(&before, |i| i as i64);
    });
}

/// The client is dropped while its coroutine unwinds, and says goodbye to the
/// server in a `block_on`.
#[test]
fn a_panic_with_a_client_harms_nobody() {
    let server = postgres_server(CONNECTIONS);
    like_threads(1, || {
        let address = server.address();
        let one = move |i: i32| {
            let mut client = connect(address);
            let wait = "SELECT $1::int FROM pg_sleep(0.1)";
            let row = client.query_one(wait, &[&i]).unwrap();
            assert!(i % 10 != 3, "a panic that is wanted");
            client.query_one("SELECT 8", &[]).unwrap();
            row.get::<_, i32>(0)
        };
        let spawn = |i| {
            let builder = crore::Builder::new().stack_size(crore_clients::STACK);
            builder.spawn(move || one(i)).unwrap()
        };
        let all: Vec<_> = (0..50).map(spawn).collect();
        for (i, handle) in (0..).zip(all) {
            match handle.join() {
                Ok(answer) => assert_eq!(answer, i),
                Err(error) => {
                    assert_eq!(i % 10, 3, "{error}");
                    let error = error.to_string();
                    assert!(error.contains("a panic that is wanted"), "{error}");
                }
            }
        }
    });
}
