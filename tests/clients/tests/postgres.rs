//! The crate `postgres` against PostgreSQL.
//!
//! It is a runtime inside: each call is tokio's `block_on`, which refuses to
//! run inside of itself and knows by a thread-local whether it does. All
//! coroutines of a thread have that thread-local in common. So one coroutine
//! of a thread at a time may be inside of a call, and this tests no more. Many
//! at once is what libpq is for, in `libpq.rs`.

use std::time::Duration;

use crore_clients::{on_one_thread, postgres_server};
use postgres::{Client, Config, NoTls};

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
            let one = crore::Builder::new()
                .stack_size(1 << 20)
                .spawn_local(move || {
                    let mut client = connect();
                    let row = client
                        .query_one(
                            "SELECT $1::int * $1::int, $1::int::text, (SELECT 0 FROM pg_sleep(0.01))",
                            &[&i],
                        )
                        .unwrap();
                    (row.get::<_, i32>(0), row.get::<_, String>(1))
                });
            assert_eq!(one.unwrap().join().unwrap(), (i * i, i.to_string()));
        }
        // The same client, handed from coroutine to coroutine.
        let mut client = connect();
        client.batch_execute("CREATE TABLE seen (n int)").unwrap();
        for i in 0..10_i32 {
            let one = crore::Builder::new()
                .stack_size(1 << 20)
                .spawn_local(move || {
                    let mut both = client.transaction().unwrap();
                    both.execute("INSERT INTO seen VALUES ($1)", &[&i]).unwrap();
                    let sum: i64 = both
                        .query_one("SELECT sum(n) FROM seen", &[])
                        .unwrap()
                        .get(0);
                    both.commit().unwrap();
                    (client, sum)
                });
            let sum;
            (client, sum) = one.unwrap().join().unwrap();
            assert_eq!(sum, i64::from(i * (i + 1) / 2));
        }
    });
}
