//! `r2d2` with fewer connections than coroutines, and writers of SQLite with a
//! busy handler, where coroutines have thread-locals of their own.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crore_clients::{each, home, like_threads, spread_crowd};
use rusqlite::{Connection, TransactionBehavior};

/// Makes connections that count who uses them.
#[derive(Debug, Default)]
struct Counted {
    made: AtomicUsize,
}

impl r2d2::ManageConnection for Counted {
    type Connection = Arc<AtomicUsize>;
    type Error = Infallible;

    fn connect(&self) -> Result<Self::Connection, Infallible> {
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::default())
    }

    fn is_valid(&self, _: &mut Self::Connection) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Self::Connection) -> bool {
        false
    }
}

fn pool(connections: u32) -> r2d2::Pool<Counted> {
    r2d2::Pool::builder()
        .max_size(connections)
        .connection_timeout(Duration::from_secs(600))
        .build(Counted::default())
        .unwrap()
}

/// Forty wait for each connection, and whoever has one parks with it.
fn fewer_connections_than_coroutines(workers: usize) {
    const CONNECTIONS: u32 = 5;
    const CROWD: usize = 200;
    like_threads(workers, || {
        let pool = pool(CONNECTIONS);
        let shared = pool.clone();
        let (answers, _) = spread_crowd(CROWD, move |i| {
            let connection = shared.get().unwrap();
            let users = connection.fetch_add(1, Ordering::Relaxed);
            assert_eq!(users, 0, "lent to two at one time");
            thread::sleep(Duration::from_millis(1));
            connection.fetch_sub(1, Ordering::Relaxed);
            i
        });
        each(&answers, |i| i);
        let state = pool.state();
        assert_eq!((state.connections, state.idle_connections), (5, 5));
    });
}

#[test]
fn r2d2_with_fewer_connections_on_one_thread() {
    fewer_connections_than_coroutines(1);
}

#[test]
fn r2d2_with_fewer_connections_on_several() {
    fewer_connections_than_coroutines(3);
}

/// What without thread-locals of one's own ends with the pool's timeout.
#[test]
fn r2d2_wakes_who_waits_and_gives_up_in_time() {
    like_threads(1, || {
        let pool = pool(1);
        let held = pool.get().unwrap();
        let (errors, _) = spread_crowd(20, {
            let pool = pool.clone();
            move |_| pool.get_timeout(Duration::from_millis(50)).is_err()
        });
        each(&errors, |_| true);
        let waiting = Arc::new(AtomicUsize::new(0));
        let waiter = crore::spawn({
            let (pool, waiting) = (pool.clone(), Arc::clone(&waiting));
            move || {
                waiting.fetch_add(1, Ordering::Relaxed);
                pool.get().is_ok()
            }
        });
        while waiting.load(Ordering::Relaxed) == 0 {
            crore::yield_now();
        }
        // One thread: who has counted itself has gone on to wait.
        drop(held);
        assert!(waiter.join().unwrap());
    });
}

thread_local! {
    /// How often this coroutine's busy handler was asked.
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

/// SQLite asks it again and again while another has the lock.
fn wait_a_little(times: i32) -> bool {
    let before = ASKED.replace(ASKED.get() + 1);
    // SQLite counts the calls for one lock, from nought on.
    assert!(times == 0 || before > 0, "another's thread-local");
    thread::sleep(Duration::from_millis(1));
    true
}

fn busy_handlers(workers: usize) {
    const CROWD: usize = 50;
    let home = home();
    let file = home.path().join("database");
    like_threads(workers, move || {
        let open = move || {
            let connection = Connection::open(&file).unwrap();
            connection.busy_handler(Some(wait_a_little)).unwrap();
            connection
        };
        let first = open();
        first
            .execute_batch("CREATE TABLE seen (n INTEGER PRIMARY KEY, total INTEGER)")
            .unwrap();
        let (results, _) = spread_crowd(CROWD, move |i| {
            assert_eq!(ASKED.get(), 0, "another's thread-local");
            let mut connection = open();
            let write = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .unwrap();
            let count = "SELECT count(*) FROM seen";
            let before: i64 = write.query_row(count, [], |row| row.get(0)).unwrap();
            // Others run now, and want the lock.
            thread::sleep(Duration::from_millis(5));
            let insert = "INSERT INTO seen VALUES (?1, ?2)";
            write.execute(insert, [i as i64, before]).unwrap();
            write.commit().unwrap();
            (before, ASKED.get())
        });
        let (mut totals, asked): (Vec<_>, Vec<_>) = results.into_iter().unzip();
        totals.sort_unstable();
        each(&totals, |i| i as i64);
        assert!(asked.iter().any(|&times| times > 0), "nobody ever waited");
    });
}

#[test]
fn sqlite_asks_the_busy_handler_of_each_on_one_thread() {
    busy_handlers(1);
}

#[test]
fn sqlite_asks_the_busy_handler_of_each_on_several() {
    busy_handlers(3);
}
