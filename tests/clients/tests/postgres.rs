//! The crate `postgres` against PostgreSQL.
//!
//! It is a runtime inside: each call is tokio's `block_on`, which refuses to
//! run inside of itself and knows by a thread-local whether it does. All
//! coroutines of a thread have that thread-local in common. So one coroutine
//! of a thread at a time may be inside of a call, and this tests no more. Many
//! at once is what libpq is for, in `libpq.rs`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crore::sync::Mutex;
use crore_clients::libpq::query;
use crore_clients::{STACK, crowd, each, on_one_thread, postgres_server};
use postgres::{Client, Config, NoTls};

/// As everywhere in these tests: twice the default stack, for a build without
/// optimisation.
fn coroutine<T: 'static>(f: impl FnOnce() -> T + 'static) -> crore::JoinHandle<T> {
    let builder = crore::Builder::new().stack_size(STACK);
    builder.spawn_local(f).expect("room for a coroutine")
}

fn connect(server: SocketAddr) -> Client {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(server.port())
        .user("postgres");
    config.connect(NoTls).expect("a connection")
}

#[test]
fn one_coroutine_at_a_time_works() {
    let server = postgres_server(20);
    on_one_thread(|| {
        let address = server.address();
        for i in 0..10_i32 {
            let one = coroutine(move || {
                let mut client = connect(address);
                let row = client
                    .query_one(
                        "SELECT $1::int * $1::int, $1::int::text, (SELECT 0 FROM pg_sleep(0.01))",
                        &[&i],
                    )
                    .unwrap();
                (row.get::<_, i32>(0), row.get::<_, String>(1))
            });
            assert_eq!(one.join().unwrap(), (i * i, i.to_string()));
        }
        // One client for all, behind a lock that parks.
        let mut client = connect(address);
        client.batch_execute("CREATE TABLE seen (n int)").unwrap();
        let client = Mutex::new(client);
        let (before, _) = crowd(50, move |i| {
            let mut client = client.lock().unwrap();
            let mut both = client.transaction().unwrap();
            let count = "SELECT count(*) FROM seen";
            let before: i64 = both.query_one(count, &[]).unwrap().get(0);
            both.execute("INSERT INTO seen VALUES ($1)", &[&(i as i32)])
                .unwrap();
            both.commit().unwrap();
            before
        });
        let mut before = before;
        before.sort_unstable();
        each(&before, |i| i as i64);
    });
}

/// tokio refuses the second by a panic, which its coroutine reports; the first
/// is unharmed. The second's client must outlive that panic: its destructor is
/// a `block_on` too, and a second panic while unwinding ends the process.
#[test]
fn of_two_at_a_time_the_second_is_refused() {
    let server = postgres_server(20);
    on_one_thread(|| {
        let address = server.address();
        let mut first = connect(address);
        let second = Rc::new(RefCell::new(connect(address)));
        let kept = Rc::clone(&second);
        let inside = coroutine(move || {
            let row = first.query_one("SELECT 7 FROM pg_sleep(0.3)", &[]).unwrap();
            row.get::<_, i32>(0)
        });
        let refused = coroutine(move || {
            let row = second.borrow_mut().query_one("SELECT 8", &[]).unwrap();
            row.get::<_, i32>(0)
        });
        let error = refused.join().unwrap_err().to_string();
        assert!(error.contains("within a runtime"), "{error}");
        assert_eq!(inside.join().unwrap(), 7);
        let row = kept.borrow_mut().query_one("SELECT 8", &[]).unwrap();
        assert_eq!(row.get::<_, i32>(0), 8);
    });
}

/// While one waits inside, coroutines that do something else run: here the
/// one that ends the wait, by libpq.
#[test]
fn others_run_meanwhile() {
    const WAIT: &str = "DO $$ BEGIN \
         FOR i IN 1..6000 LOOP \
             IF EXISTS (SELECT 1 FROM go) THEN RETURN; END IF; \
             PERFORM pg_sleep(0.01); \
         END LOOP; \
         RAISE 'nobody said go'; END $$";
    let server = postgres_server(20);
    on_one_thread(|| {
        let address = server.address();
        let mut client = connect(address);
        client.batch_execute("CREATE TABLE go (n int)").unwrap();
        let other = crore::spawn_local(move || {
            let waiting = "SELECT count(*) FROM pg_stat_activity \
                 WHERE state = 'active' AND query LIKE 'DO %'";
            while query(address, waiting, None).unwrap() == "0" {
                crore::sleep(Duration::from_millis(5));
            }
            query(address, "INSERT INTO go VALUES (1)", None).unwrap();
        });
        client.batch_execute(WAIT).unwrap();
        other.join().unwrap();
    });
}
