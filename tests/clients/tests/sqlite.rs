//! SQLite, the C library, by the crate `rusqlite`: no server, but a lock on a
//! file that is held while others wait for it in libc's `usleep`.

use std::time::Duration;

use crore_clients::{crowd, each, home, on_one_thread};
use rusqlite::{Connection, TransactionBehavior};

const CROWD: usize = 50;

/// Were the wait not a coroutine's own, the first that holds the lock and
/// parks would never run again, and all others would give up.
#[test]
fn writers_take_turns() {
    let home = home();
    let file = home.path().join("database");
    on_one_thread(move || {
        let open = move || {
            let connection = Connection::open(&file).unwrap();
            connection.busy_timeout(Duration::from_secs(60)).unwrap();
            connection
        };
        let first = open();
        first
            .execute_batch("CREATE TABLE seen (n INTEGER PRIMARY KEY, total INTEGER)")
            .unwrap();
        let another = open.clone();
        let (totals, _) = crowd(CROWD, move |i| {
            let mut connection = another();
            let write = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .unwrap();
            let before: i64 = write
                .query_row("SELECT count(*) FROM seen", [], |row| row.get(0))
                .unwrap();
            // Others run now, and want the lock.
            std::thread::sleep(Duration::from_millis(2));
            write
                .execute("INSERT INTO seen VALUES (?1, ?2)", [i as i64, before])
                .unwrap();
            write.commit().unwrap();
            before
        });
        // One after the other: each found one more than the one before.
        let mut totals = totals;
        totals.sort_unstable();
        each(&totals, |i| i as i64);
        let kept: i64 = first
            .query_row("SELECT sum(n) FROM seen", [], |row| row.get(0))
            .unwrap();
        assert_eq!(kept, (CROWD * (CROWD - 1) / 2) as i64);
    });
}

#[test]
fn who_waits_too_long_is_told() {
    let home = home();
    let file = home.path().join("database");
    on_one_thread(move || {
        let holder = Connection::open(&file).unwrap();
        holder
            .execute_batch("CREATE TABLE t (n); BEGIN EXCLUSIVE")
            .unwrap();
        let (errors, _) = crowd(CROWD, move |_| {
            let connection = Connection::open(&file).unwrap();
            connection.busy_timeout(Duration::from_millis(50)).unwrap();
            let error = connection
                .execute("INSERT INTO t VALUES (1)", [])
                .unwrap_err();
            error.sqlite_error_code()
        });
        each(&errors, |_| Some(rusqlite::ErrorCode::DatabaseBusy));
        holder.execute_batch("COMMIT").unwrap();
    });
}
