//! A coroutine that waits, by crore's own wait, inside of a callback that C calls, and is
//! cancelled. The unwind met `extern "C"` and the process aborted. Right: it waits on.

pub(crate) fn main() {
    extern "C" fn cmp(a: *const libc::c_void, b: *const libc::c_void) -> i32 {
        crore::yield_now();
        unsafe { *(a as *const i32) - *(b as *const i32) }
    }
    crore::run(|| {
        let h = crore::spawn(|| {
            let mut v: Vec<i32> = (0..1000).rev().collect();
            unsafe { libc::qsort(v.as_mut_ptr().cast(), v.len(), 4, Some(cmp)) };
            v
        });
        crore::yield_now();
        h.cancel();
        println!("OK {:?}", h.join().map(|v| v[0]));
    })
    .unwrap();
}
