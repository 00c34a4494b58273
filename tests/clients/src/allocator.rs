//! What an allocator with caches by thread meets in coroutines with
//! thread-locals of their own: memory goes from one to the other, and caches
//! come and go.

use std::sync::{Mutex, PoisonError};

use crore::{Builder, JoinHandle};

/// One test at a time: what the process has in memory is compared.
static ALONE: Mutex<()> = Mutex::new(());

fn own<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    // Built without optimisation, jemalloc overflows 64 KiB.
    let builder = Builder::new().stack_size(256 * 1024);
    builder
        .own_thread_locals(true)
        .spawn(f)
        .expect("there is room")
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Allocates in one coroutine, frees in others, on the worker, and on threads.
pub fn goes_around() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for workers in [1, 2] {
        let runtime = crore::Runtime::builder().workers(workers).build().unwrap();
        runtime
            .run(|| {
                let all: Vec<_> = (1..=20usize)
                    .map(|i| {
                        own(move || {
                            let mut kept = Vec::new();
                            for round in 1..=50 {
                                kept.push(vec![i as u8; i * round * 7]);
                                crore::yield_now();
                                if round % 3 == 0 {
                                    kept.swap_remove(round / 5);
                                }
                            }
                            kept
                        })
                    })
                    .collect();
                for (i, one) in all.into_iter().enumerate() {
                    let kept = one.join().unwrap();
                    let right = |bytes: &Vec<u8>| bytes.iter().all(|&byte| byte == i as u8 + 1);
                    assert!(kept.iter().all(right));
                    match i % 3 {
                        0 => drop(kept),
                        1 => own(move || drop(kept)).join().unwrap(),
                        _ => std::thread::spawn(move || drop(kept)).join().unwrap(),
                    }
                }
            })
            .unwrap();
    }
}

/// Many coroutines come and go; memory stays what it is.
pub fn comes_and_goes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    crore::run(|| {
        let batch = || {
            let all: Vec<_> = (0..500)
                .map(|i| {
                    own(move || {
                        let some: Vec<_> = (1..20).map(|j| vec![1u8; i + j * 16]).collect();
                        crore::yield_now();
                        some.len()
                    })
                })
                .collect();
            for one in all {
                assert_eq!(one.join().unwrap(), 19);
            }
        };
        (0..10).for_each(|_| batch());
        let before = resident();
        (0..80).for_each(|_| batch());
        let grown = resident().saturating_sub(before);
        // jemalloc keeps pages for a while: 15 to 50 MB, after 20 000 as after
        // 200 000 of them. A block that leaked would be 5 KB each.
        assert!(grown < 100 << 20, "{grown} bytes more");
    })
    .unwrap();
}
