//! Spawning, joining, parking: the promises after `std::thread`.

use std::time::{Duration, Instant};

#[test]
fn spawn_and_join() {
    let sum = crore::run(|| {
        let all: Vec<_> = (0..1000u64)
            .map(|i| {
                crore::spawn(move || {
                    crore::yield_now();
                    i
                })
            })
            .collect();
        all.into_iter().map(|h| h.join().unwrap()).sum::<u64>()
    })
    .unwrap();
    assert_eq!(sum, 499_500);
}

#[test]
fn panics_reach_the_joiner() {
    crore::run(|| {
        let h = crore::spawn(|| -> u32 { panic!("boom {}", 1) });
        let e = h.join().unwrap_err();
        assert!(e.is_panic());
        assert_eq!(e.to_string(), "coroutine panicked: boom 1");
    })
    .unwrap();
}

#[test]
fn sleeping() {
    crore::run(|| {
        let start = Instant::now();
        let all: Vec<_> = (0..100)
            .map(|_| crore::spawn(|| crore::sleep(Duration::from_millis(20))))
            .collect();
        for h in all {
            h.join().unwrap()
        }
        assert!(start.elapsed() >= Duration::from_millis(20));
    })
    .unwrap();
}
#[test]
fn leftovers_are_cancelled() {
    let h = crore::run(|| {
        crore::spawn(|| {
            crore::park();
            1
        })
    })
    .unwrap();
    assert!(h.join().unwrap_err().is_cancelled());
}
