//! Micro numbers of the driver:
//! `cargo test --release --lib driver::bench -- --ignored --nocapture --test-threads 1`

use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::rng::Rng;
use super::wheel::Wheel;
use super::{Direction, Driver, Hint, Outcome, Turn};

/// Prints the nanoseconds of one of `count` operations, the best of five runs.
fn report(what: &str, count: u64, mut run: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_nanos() as f64 / count as f64);
    }
    println!("{what:<44} {best:7.1} ns");
}

#[test]
#[ignore = "prints numbers"]
fn timers() {
    for standing in [1_000u64, 1_000_000] {
        let mut rng = Rng::new(1);
        let mut wheel = Wheel::new();
        // Timeouts of 1 to 30 s, in ticks.
        let timeout = |rng: &mut Rng| 15_000 + rng.below(440_000);
        let mut keys: Vec<_> = (0..standing)
            .map(|_| wheel.insert(timeout(&mut rng), Waker::noop().clone()))
            .collect();
        report(
            &format!("insert + remove, {standing} standing"),
            standing,
            || {
                for _ in 0..standing {
                    let key = wheel.insert(timeout(&mut rng), Waker::noop().clone());
                    assert!(wheel.remove(key).is_some());
                }
            },
        );
        report(
            &format!("replace one of {standing} at random"),
            standing,
            || {
                for _ in 0..standing {
                    let key = wheel.insert(timeout(&mut rng), Waker::noop().clone());
                    let at = rng.below(standing) as usize;
                    assert!(
                        wheel
                            .remove(std::mem::replace(&mut keys[at], key))
                            .is_some()
                    );
                }
            },
        );
        let mut soon = 0;
        report(
            &format!("insert + fire of a short one, {standing} standing"),
            10_000,
            || {
                for _ in 0..10_000 {
                    wheel.insert(soon + 1, Waker::noop().clone());
                    soon = wheel.next_deadline().expect("inserted just now");
                    wheel.advance(soon, &mut |waker| drop(black_box(waker)));
                }
            },
        );
        let mut now = 0;
        wheel.advance(500_000, &mut |waker| drop(black_box(waker)));
        assert_eq!(wheel.len(), 0);
        now += 500_000;
        report(
            &format!("insert + fire, {standing} at once"),
            standing,
            || {
                for _ in 0..standing {
                    wheel.insert(now + timeout(&mut rng), Waker::noop().clone());
                }
                let mut fired = 0;
                while let Some(next) = wheel.next_deadline() {
                    now = next;
                    wheel.advance(now, &mut |waker| {
                        drop(black_box(waker));
                        fired += 1;
                    });
                }
                assert_eq!(fired, standing);
            },
        );
    }
}

#[test]
#[ignore = "prints numbers"]
fn sleeps() {
    let mut driver = Driver::new().unwrap();
    for micros in [200u64, 1_000] {
        let mut took: Vec<_> = (0..200)
            .map(|_| {
                let start = Instant::now();
                let mut woken = Vec::new();
                driver.insert_timer(start + Duration::from_micros(micros), Waker::noop().clone());
                while woken.is_empty() {
                    driver.turn(Turn::Park, Instant::now(), &mut woken).unwrap();
                    driver.deliver(usize::MAX, &mut woken);
                }
                start.elapsed()
            })
            .collect();
        took.sort();
        println!(
            "sleep of {micros} us: median {:?}, 95 % {:?}",
            took[100], took[190]
        );
    }
}

#[test]
#[ignore = "prints numbers"]
fn descriptors() {
    const COUNT: u64 = 1_000_000;
    let (_a, b) = UnixStream::pair().unwrap();
    let fd = b.as_raw_fd();
    let mut driver = Driver::new().unwrap();
    let mut woken = Vec::new();
    let key = driver
        .wait(fd, Direction::Read, Waker::noop().clone())
        .unwrap();
    driver.turn(Turn::Poll, Instant::now(), &mut woken).unwrap();
    driver.deliver(usize::MAX, &mut woken);
    assert_eq!(driver.finish(key), Outcome::Pending);
    driver.drained(fd, Direction::Read);
    report("hint", COUNT, || {
        for _ in 0..COUNT {
            assert_eq!(driver.hint(black_box(fd), Direction::Read), Hint::Drained);
        }
    });
    report("drained + wait + finish, checks in turn", COUNT, || {
        for round in 0..COUNT {
            driver.drained(fd, Direction::Read);
            let key = driver
                .wait(fd, Direction::Read, Waker::noop().clone())
                .unwrap();
            assert_eq!(driver.finish(key), Outcome::Pending);
            if round % 64 == 0 {
                driver.turn(Turn::Poll, Instant::now(), &mut woken).unwrap();
                driver.deliver(usize::MAX, &mut woken);
            }
        }
    });
    report("turn(Poll), nobody waits", COUNT, || {
        for _ in 0..COUNT {
            driver.turn(Turn::Poll, Instant::now(), &mut woken).unwrap();
            driver.deliver(usize::MAX, &mut woken);
        }
    });
    let key = driver
        .wait(fd, Direction::Read, Waker::noop().clone())
        .unwrap();
    report("turn(Poll), one waits", COUNT / 10, || {
        for _ in 0..COUNT / 10 {
            driver.turn(Turn::Poll, Instant::now(), &mut woken).unwrap();
            driver.deliver(usize::MAX, &mut woken);
        }
    });
    driver.finish(key);
    assert!(woken.is_empty());
}
