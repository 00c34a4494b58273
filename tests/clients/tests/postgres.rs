//! The crate `postgres` against PostgreSQL.
//!
//! It is a runtime inside: each call is tokio's `block_on`, which refuses to
//! run inside of itself and knows by a thread-local whether it does. All
//! coroutines of a thread have that thread-local in common. So one coroutine
//! of a thread at a time may be inside of a call, and this tests no more. Many
//! at once is what libpq is for, in `libpq.rs`.

use std::time::Duration;

use crore::sync::Mutex;
use crore_clients::{STACK, crowd, each, on_one_thread, postgres_server};
use postgres::{Client, Config, NoTls};

/// As everywhere in these tests: twice the default stack, for a build without
/// optimisation.
fn coroutine<T: 'static>(f: impl FnOnce() -> T + 'static) -> crore::JoinHandle<T> {
    let builder = crore::Builder::new().stack_size(STACK);
    builder.spawn_local(f).expect("room for a coroutine")
}

#[test]
fn one_coroutine_at_a_time_works() {
    let server = postgres_server(20);
    on_one_thread(|| {
        let address = server.address();
        let connect = move || -> Client {
            Config::new()
                .host("127.0.0.1")
                .port(address.port())
                .user("postgres")
                .connect_timeout(Duration::from_secs(60))
                .connect(NoTls)
                .unwrap()
        };
        for i in 0..10_i32 {
            let one = coroutine(move || {
                let mut client = connect();
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
        let mut client = connect();
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
