//! Shared stacks: what is counted, what is limited, what is given back.

use std::hint;
use std::os::unix::process::ExitStatusExt;

use crate::common::{in_child, kilobytes, set_limit, stderr as text};
use crore::{JoinHandle, Metrics, Runtime, RuntimeBuilder};

const SIGABRT: i32 = 6;

fn shared<T: 'static>(f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    // SAFETY: the tests below hand out no references to locals.
    unsafe { crore::spawn_shared(f) }
}

/// Runs `f`, and says what was counted.
fn counted(builder: RuntimeBuilder, f: impl FnOnce()) -> Metrics {
    let runtime = builder.check_shared(false).build().unwrap();
    runtime.run(f).unwrap();
    runtime.metrics()
}

#[test]
fn an_owner_that_is_still_there_costs_no_copy() {
    let builder = Runtime::builder().shared_stacks(4, 1 << 20);
    let metrics = counted(builder, || {
        let all: Vec<_> = (0..4)
            .map(|_| shared(|| (0..10).for_each(|_| crore::yield_now())))
            .collect();
        all.into_iter().for_each(|handle| handle.join().unwrap());
    });
    assert_eq!(metrics.frame_hits, 40);
    assert_eq!((metrics.frame_saves, metrics.frame_restores), (0, 0));
    assert_eq!(metrics.saved_bytes_peak, 0);
}

#[test]
fn two_that_take_turns_on_one_stack_are_copied_each_time() {
    let builder = Runtime::builder().shared_stacks(1, 1 << 20);
    let metrics = counted(builder, || {
        let all = [(); 2].map(|()| shared(|| (0..10).for_each(|_| crore::yield_now())));
        all.into_iter().for_each(|handle| handle.join().unwrap());
    });
    // The second's start displaces the first; each resume the other one; the
    // first's end leaves the second where it is, or the stack to nobody.
    assert_eq!(metrics.frame_restores, 20);
    assert_eq!(metrics.frame_saves, 20);
    assert_eq!(metrics.frame_hits, 0);
    assert!((32..4096).contains(&metrics.largest_frame), "{metrics:?}");
    assert_eq!(metrics.saved_bytes, 0, "all have ended");
    assert!(metrics.saved_bytes_peak >= metrics.largest_frame);
}

#[test]
fn a_place_whose_owner_has_ended_is_preferred() {
    let builder = Runtime::builder().shared_stacks(2, 1 << 20);
    let metrics = counted(builder, || {
        let stays = shared(crore::park);
        crore::yield_now();
        for _ in 0..10 {
            shared(crore::yield_now).join().unwrap();
        }
        stays.coroutine().unpark();
        stays.join().unwrap();
    });
    assert_eq!(metrics.frame_saves, 0, "nobody needed to move: {metrics:?}");
}

/// Parks with `BYTES` of live locals.
fn park_with<const BYTES: usize>() -> u8 {
    let local = hint::black_box([5_u8; BYTES]);
    crore::park();
    hint::black_box(local)[BYTES - 1]
}

#[test]
fn above_the_limit_of_saved_bytes_none_starts() {
    let builder = Runtime::builder()
        .shared_stacks(1, 1 << 20)
        .max_saved_bytes(100_000);
    let metrics = counted(builder, || {
        let all: Vec<_> = (0..100).map(|_| shared(park_with::<4096>)).collect();
        crore::yield_now();
        all.iter().for_each(|handle| handle.coroutine().unpark());
        let (mut good, mut refused) = (0, 0);
        for handle in all {
            match handle.join() {
                Ok(5) => good += 1,
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains("more than 100000 bytes"), "{text}");
                    assert!(text.contains("max_saved_bytes"), "{text}");
                    refused += 1;
                }
                Ok(other) => panic!("{other}"),
            }
        }
        assert!(good > 5 && refused > 60, "{good} good, {refused} refused");
        // Now that they have ended, there is room again.
        let later = shared(park_with::<4096>);
        crore::yield_now();
        later.coroutine().unpark();
        assert_eq!(later.join().unwrap(), 5);
    });
    // The one that went over the limit was allowed to start, and another was
    // on the stack.
    let most = 100_000 + 2 * metrics.largest_frame;
    assert!(
        (100_000..=most).contains(&metrics.saved_bytes_peak),
        "{metrics:?}"
    );
}

fn resident() -> u64 {
    kilobytes("VmRSS") << 10
}

#[test]
fn memory_is_given_back_after_a_spike() {
    let name = "memory_is_given_back_after_a_spike";
    let output = in_child(name, || {
        let runtime = Runtime::builder().check_shared(false).build().unwrap();
        runtime.run(spikes).unwrap();
        println!("{:?}", runtime.metrics());
    });
    assert!(output.status.success(), "{}", text(&output));
}

fn spikes() {
    const SPIKE: u64 = 20_000 * 8192;
    shared(|| park_with::<8192>).join().unwrap();
    let before = resident();
    for round in 0..3 {
        let all: Vec<_> = (0..20_000)
            .map(|i| {
                if i % 100 == 0 {
                    crore::yield_now();
                }
                shared(park_with::<8192>)
            })
            .collect();
        crore::yield_now();
        assert!(resident() > before + SPIKE, "round {round}");
        all.iter().for_each(|handle| handle.coroutine().unpark());
        assert!(all.into_iter().all(|handle| handle.join().unwrap() == 5));
        crore::sleep(std::time::Duration::from_millis(1));
        let after = resident();
        // Builds with debug assertions keep a table of all blocks there were.
        let table = if cfg!(debug_assertions) { SPIKE / 4 } else { 0 };
        assert!(
            after < before + before / 20 + (16 << 20) + table,
            "round {round}: {before} before, {after} after"
        );
    }
}

#[test]
fn a_limit_of_address_space_leaves_room_for_shared_stacks() {
    let name = "a_limit_of_address_space_leaves_room_for_shared_stacks";
    let output = in_child(name, || {
        set_limit(libc::RLIMIT_AS, 8 << 30);
        let builder = Runtime::builder().shared_stacks(1, 1 << 20);
        let metrics = counted(builder, || {
            let all = [(); 100].map(|()| shared(park_with::<1000>));
            crore::yield_now();
            all.iter().for_each(|handle| handle.coroutine().unpark());
            let right = all.into_iter().all(|handle| handle.join().unwrap() == 5);
            assert!(right);
        });
        assert!(metrics.frame_saves >= 99, "{metrics:?}");
    });
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn many_runtimes_one_after_the_other_leak_no_address_space() {
    // Each reserves a terabyte for its stacks; the processor has 128.
    for _ in 0..300 {
        crore::run(|| {
            let parked = shared(crore::park);
            crore::yield_now();
            drop(parked);
        })
        .unwrap();
    }
}

#[test]
fn an_overflow_of_a_shared_stack_is_reported() {
    fn recurse(depth: u64) -> u64 {
        let frame = hint::black_box([depth; 64]);
        match frame[63] {
            u64::MAX => 0,
            _ => recurse(hint::black_box(depth + 1)) + frame[(depth % 64) as usize],
        }
    }
    let output = in_child("an_overflow_of_a_shared_stack_is_reported", || {
        let runtime = Runtime::builder().shared_stacks(2, 256 * 1024).build();
        let report = || {
            let builder = crore::Builder::new().name("deep".into());
            // SAFETY: as for `shared`.
            unsafe { builder.spawn_shared(|| recurse(0)) }
                .unwrap()
                .join()
        };
        runtime.unwrap().run(report).unwrap().unwrap();
    });
    let text = text(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    let expected = "crore: stack overflow in coroutine 'deep' (id ";
    assert!(text.contains(expected), "{text}");
    assert!(
        text.contains("its stack of 262144 bytes is used up"),
        "{text}"
    );
    assert!(text.contains("shared_stacks(count, bytes)"), "{text}");
}

#[test]
fn check_mode_copies_nothing() {
    let runtime = Runtime::builder()
        .shared_stacks(1, 1 << 20)
        .check_shared(true);
    let runtime = runtime.build().unwrap();
    runtime
        .run(|| {
            let all = [(); 9].map(|()| shared(park_with::<100>));
            crore::yield_now();
            all.iter().for_each(|handle| handle.coroutine().unpark());
            all.into_iter()
                .for_each(|handle| assert_eq!(handle.join().unwrap(), 5));
        })
        .unwrap();
    assert_eq!(runtime.metrics().frame_saves, 0);
}
