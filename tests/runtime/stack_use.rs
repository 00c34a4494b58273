//! The promise: what coroutines use of their stacks is known by where they were spawned.

use std::hint::black_box;

use crore::{Builder, Handle, JoinHandle, Runtime};

const SIZE: usize = 256 << 10;

/// Writes so many KiB of the stack, and waits in the midst of it.
fn uses(kilobytes: usize) -> u8 {
    let page = black_box([7_u8; 1024]);
    let below = match kilobytes {
        0 => {
            crore::yield_now();
            0
        }
        _ => uses(kilobytes - 1),
    };
    below.wrapping_add(black_box(&page)[0])
}

fn large(kilobytes: usize) -> JoinHandle<u8> {
    let builder = Builder::new().stack_size(SIZE);
    builder.spawn(move || uses(kilobytes)).unwrap()
}

#[test]
fn what_each_has_used_is_its_own_although_stacks_are_used_again() {
    let runtime = Runtime::builder().measure_stacks(true).build().unwrap();
    runtime
        .run(|| {
            // One after the other has the same stack; the deepest comes first.
            let mut all = vec![100];
            all.extend([0; 99]);
            for kilobytes in all {
                large(kilobytes).join().unwrap();
            }
            crore::spawn(|| uses(10)).join().unwrap();
            let places = Handle::current().unwrap().stack_use();
            let [many, one] = &places[..] else {
                panic!("{places:?}")
            };
            assert_eq!((many.coroutines(), many.stack_size()), (100, SIZE));
            let (half, most) = (many.quantile(500) >> 10, many.quantile(1000) >> 10);
            assert!((1..20).contains(&half), "{many}");
            assert_eq!(many.quantile(990) >> 10, half, "{many}");
            assert!((100..SIZE >> 10).contains(&most), "{many}");
            assert_eq!(one.coroutines(), 1);
            assert!(one.quantile(990) >= 10 << 10, "{one}");
            let dump = Handle::current().unwrap().dump().to_string();
            assert!(dump.contains(&format!("  {many}\n")), "{dump}");
            let said = many.to_string();
            let words = format!(": 100 coroutines, p50 {half} KiB, p99 {half} KiB, most ");
            assert!(
                said.contains(&words) && said.contains(" KiB of 256"),
                "{said}"
            );
        })
        .unwrap();
}

#[test]
fn without_asking_nothing_is_measured() {
    crore::run(|| {
        large(10).join().unwrap();
        assert!(Handle::current().unwrap().stack_use().is_empty());
    })
    .unwrap();
}

#[test]
fn the_advice_has_room_for_twice_the_most() {
    let runtime = Runtime::builder().measure_stacks(true).build().unwrap();
    runtime
        .run(|| {
            large(1).join().unwrap();
            let small = &Handle::current().unwrap().stack_use()[0];
            let advice = small.advice().unwrap();
            assert!(
                advice >= 2 * small.quantile(1000) && advice < SIZE,
                "{small}"
            );
            assert!(small.to_string().ends_with(" KiB would do"), "{small}");
        })
        .unwrap();
}
