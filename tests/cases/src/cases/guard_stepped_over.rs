//! A function of C with a buffer of 8 KiB, called with 3 KiB of stack left. It stepped over
//! the one guard page, into the live frames of the neighbour. Right: a report of the overflow.

use std::{ffi::*, hint::black_box, time::Duration};
unsafe extern "C" {
    fn parse_line(value: c_char) -> c_int;
}
fn down(to: usize) -> i32 {
    let x = black_box([0u8; 256]);
    if x.as_ptr() as usize <= to {
        unsafe { parse_line(0x55) }
    } else {
        down(to) + black_box(x)[3] as i32
    }
}
pub(crate) fn main() {
    crore::run(|| {
        let all: Vec<_> = (0..20u8)
            .map(|i| {
                crore::spawn(move || {
                    let x = black_box([i; 2048]);
                    std::thread::sleep(Duration::from_millis(100));
                    black_box(&x).iter().filter(|v| **v != i).count()
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(10));
        let r = crore::spawn(|| {
            let x = 0u8;
            let top = black_box(&raw const x) as usize & !0xfff;
            down(top + 4096 - 65536 + 3 * 1024)
        })
        .join();
        println!("overflow reported: {}", r.is_err());
        for (i, h) in all.into_iter().enumerate() {
            let hurt = h.join().unwrap();
            if hurt > 0 {
                println!("FAULT: {hurt} bytes of coroutine {i} were overwritten")
            }
        }
    })
    .unwrap();
}
