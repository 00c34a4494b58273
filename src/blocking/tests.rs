//! Helper threads as users see them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use super::*;

#[test]
fn results_and_panics_arrive_anywhere() {
    assert_eq!(spawn_blocking(|| 6 * 7).join().unwrap(), 42);
    let inside = crate::run(|| {
        let ours: Vec<_> = (0..100u32).map(|i| spawn_blocking(move || i)).collect();
        let sum: u32 = ours.into_iter().map(|one| one.join().unwrap()).sum();
        let panic = spawn_blocking(|| panic!("on a helper")).join().unwrap_err();
        let awaited = crate::block_on(async { spawn_blocking(|| "future").await.unwrap() });
        (sum, panic.to_string(), awaited)
    });
    let (sum, panic, awaited) = inside.unwrap();
    assert_eq!((sum, awaited), (4950, "future"));
    assert_eq!(panic, "coroutine panicked: on a helper");
}

#[test]
fn the_worker_goes_on() {
    crate::run(|| {
        let (tx, rx) = mpsc::channel();
        let waits = spawn_blocking(move || rx.recv().unwrap());
        let other = crate::spawn(move || tx.send(5).unwrap());
        assert_eq!(waits.join().unwrap(), 5);
        other.join().unwrap();
    })
    .unwrap();
}

/// Counts its drops.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn what_nobody_takes_is_dropped() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (begun, has_begun) = mpsc::channel();
    let (go, gone) = (Arc::new(Mutex::new(())), Dropped(Arc::clone(&drops)));
    let held = go.lock().unwrap();
    let theirs = Arc::clone(&go);
    let (ended, has_ended) = mpsc::channel::<()>();
    let handle = spawn_blocking(move || {
        let _ended = ended;
        begun.send(()).unwrap();
        drop(theirs.lock());
        gone
    });
    has_begun.recv().unwrap();
    drop(handle);
    drop(held);
    // The closure's end drops the sender.
    has_ended.recv().unwrap_err();
    while drops.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}
