//! libpq, PostgreSQL's C client, through a shim that is plain C.

use std::time::Duration;

use crore_clients::libpq::query;
use crore_clients::{crowd, each, on_one_thread, overlapped, postgres_server};

/// Each is a process of the server.
const CROWD: usize = 200;

/// Holds a lock until `n` others wait for it.
const HOLD: &str = "CREATE FUNCTION hold(n int) RETURNS int LANGUAGE plpgsql AS $body$ BEGIN \
     PERFORM pg_advisory_lock(7); \
     WHILE (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) < n \
     LOOP PERFORM pg_sleep(0.01); END LOOP; \
     PERFORM pg_advisory_unlock(7); RETURN n; END $body$";

#[test]
fn all_wait_at_one_time() {
    let server = postgres_server(CROWD + 10);
    on_one_thread(|| {
        let address = server.address();
        query(address, HOLD, None).unwrap();
        let holder =
            crore::spawn_local(move || query(address, "SELECT hold($1)", Some(&CROWD.to_string())));
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
        while query(address, held, None).unwrap() == "0" {
            crore::sleep(Duration::from_millis(5));
        }
        let (answers, _) = crowd(CROWD, move |i| {
            let wait = "SELECT $1::int * $1::int FROM pg_advisory_lock(7)";
            query(address, wait, Some(&i.to_string()))
        });
        each(&answers, |i| Ok((i * i).to_string()));
        assert_eq!(holder.join().unwrap(), Ok(CROWD.to_string()));
    });
}

#[test]
fn all_waits_end_together() {
    let server = postgres_server(CROWD + 10);
    on_one_thread(|| {
        let address = server.address();
        let (answers, took) = crowd(CROWD, move |i| {
            query(
                address,
                "SELECT $1 FROM pg_sleep(0.1)",
                Some(&i.to_string()),
            )
        });
        each(&answers, |i| Ok(i.to_string()));
        overlapped("libpq pg_sleep", CROWD, took);
    });
}
