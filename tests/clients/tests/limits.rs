//! What does not work, kept here so that the page says so as long as it holds.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crore::sync::{Barrier, Semaphore};
use crore_clients::{crowd, each, on_one_thread};

/// Makes connections that are nothing.
struct Nothing;

impl r2d2::ManageConnection for Nothing {
    type Connection = ();
    type Error = Infallible;

    fn connect(&self) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

fn pool(connections: u32) -> r2d2::Pool<Nothing> {
    r2d2::Pool::builder()
        .max_size(connections)
        .connection_timeout(Duration::from_millis(200))
        .build(Nothing)
        .unwrap()
}

#[test]
fn r2d2_with_a_connection_for_each_coroutine_works() {
    on_one_thread(|| {
        let (pool, barrier) = (pool(50), Arc::new(Barrier::new(50)));
        let (answers, _) = crowd(50, move |_| {
            let connection = pool.get();
            // All hold one before the first gives it back.
            barrier.wait();
            connection.is_ok()
        });
        each(&answers, |_| true);
    });
}

/// It waits for a connection in `parking_lot`'s condition variable, which
/// stops the thread: who holds the connection can't run to give it back.
#[test]
fn r2d2_with_fewer_connections_times_out() {
    on_one_thread(|| {
        let pool = pool(1);
        let held = pool.get().unwrap();
        let another = pool.clone();
        let waiter = crore::spawn_local(move || another.get().is_err());
        // The waiter runs, and the thread stops with it.
        crore::sleep(Duration::from_millis(1));
        drop(held);
        assert!(waiter.join().unwrap(), "it works: say so on the page");
        assert!(pool.get().is_ok());
    });
}

#[test]
fn r2d2_behind_a_semaphore_works() {
    on_one_thread(|| {
        let (pool, free) = (pool(5), Semaphore::new(5));
        let (answers, _) = crowd(200, move |i| {
            let _permit = free.acquire(1).unwrap();
            let connection = pool.get();
            crore::sleep(Duration::from_millis(1));
            connection.map(|_| i).ok()
        });
        each(&answers, Some);
    });
}
