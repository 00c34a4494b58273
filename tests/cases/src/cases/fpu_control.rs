//! Rounding (MXCSR and the x87 control word) of coroutines that wait. A hooked call returned
//! with another's. Right with own thread-locals; of the others docs/KINDS.md says what holds.

use std::{arch::asm, hint::black_box, time::Duration};
fn get() -> u32 {
    let mut v = 0u32;
    unsafe { asm!("stmxcsr [{}]", in(reg) &mut v) };
    v
}
fn set(v: u32) {
    unsafe { asm!("ldmxcsr [{}]", in(reg) &v) }
}
pub(crate) fn main() {
    crore::run(|| for tls in [false, true] {
        let before = get();
        let go = |f: Box<dyn FnOnce() -> (u32, u64) + Send>| crore::Builder::new().own_thread_locals(tls).spawn(f).unwrap();
        let a = go(Box::new(move || { set(before & !0x6000 | 0x4000); std::thread::sleep(Duration::from_millis(20)); let kept = get() & 0x6000; set(before); (kept, 0) }));
        let b = go(Box::new(move || { std::thread::sleep(Duration::from_millis(5)); let r = (get() & 0x6000, (black_box(1.0f64) / black_box(3.0)).to_bits()); set(before); r }));
        let (b, a) = (b.join().unwrap(), a.join().unwrap());
        println!("own thread-locals {tls}: A set rounding 4000 and has {:x} after a sleep; B set none and has {:x}, 1/3 = {:x} (want {:x})", a.0, b.0, b.1, (1.0f64 / 3.0).to_bits());
    }).unwrap();
}
