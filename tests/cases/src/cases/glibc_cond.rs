//! Condition variables of plain threads with glibc before 2.36. `dlsym(RTLD_NEXT)` gives the
//! oldest version there, with another layout of `pthread_cond_t`: SIGSEGV in any program that
//! was linked with crore. `scripts/glibc.sh bullseye -p crore-cases cond` runs it so.

unsafe extern "C" {
    fn cv();
    fn condold();
}

pub(crate) fn main() {
    println!("{}", crore::hook::status()); // links crore; no runtime, no coroutine
    unsafe {
        cv();
        condold();
    }
}
