//! The helper threads as hooks use them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;

/// Counts its drops.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_cancelled_coroutine_abandons_its_job() {
    let drops = Arc::new(AtomicUsize::new(0));
    let gone = Dropped(Arc::clone(&drops));
    crate::run(move || {
        let (go, wait) = mpsc::channel::<()>();
        let waits = crate::spawn(move || {
            let cx = CurrentTask::running().unwrap();
            let result = run(cx, move || {
                let _ = wait.recv();
                gone
            });
            result.map(drop).unwrap_err().raw_os_error()
        });
        crate::yield_now();
        waits.cancel();
        assert_eq!(waits.join().unwrap(), Some(crate::sys::errno::ECANCELED));
        drop(go);
    })
    .unwrap();
    while drops.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn waiting_to_the_end_does_not_spin_when_a_timeout_is_over() {
    use std::time::Duration;

    let runtime = crate::Runtime::builder().build().unwrap();
    let (go, gone) = mpsc::channel();
    let (value, resumed) = runtime
        .run(|| {
            let other = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                go.send(7).unwrap();
            });
            let mut seen = None;
            let _ = crate::timeout(Duration::from_millis(1), || {
                let resumed = || crate::Handle::current().unwrap().metrics().resumed;
                let before = resumed();
                let cx = CurrentTask::running().unwrap();
                let value = run_to_end(cx, move || gone.recv().unwrap()).unwrap();
                seen = Some((value, resumed() - before));
            });
            other.join().unwrap();
            seen.expect("it was waited for")
        })
        .unwrap();
    assert_eq!(value, 7);
    assert!(resumed < 10, "resumed {resumed} times");
}
