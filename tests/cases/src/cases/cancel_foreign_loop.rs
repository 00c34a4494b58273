//! A time limit or a cancellation around what has tokio's I/O driver inside (postgres,
//! reqwest::blocking). The hooked `epoll_wait` said `ETIMEDOUT` or `ECANCELED`, which the
//! driver takes for a bug: it panicked, and with `guard` (a destructor that calls `block_on`
//! once more, as `postgres::Client`'s does) the second panic aborted the process. Right: the
//! loop waits on, and its connections break. Arguments: `timeout` or `cancel`, then `guard`.

use std::time::Duration;
struct Guard(tokio::runtime::Runtime);
impl Drop for Guard {
    fn drop(&mut self) {
        self.0
            .block_on(async { tokio::time::sleep(Duration::from_millis(1)).await })
    }
}
pub(crate) fn main() {
    let a: Vec<String> = std::env::args().collect();
    let guard = a.get(2).is_some();
    let work = move || {
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let wait = async { tokio::time::sleep(Duration::from_secs(2)).await };
        if guard {
            Guard(rt).0.block_on(wait)
        } else {
            rt.block_on(wait)
        }
    };
    let runtime = crore::Runtime::builder()
        .own_thread_locals(true)
        .build()
        .unwrap();
    let r = runtime.run(move || {
        let h = if a[1] == "timeout" {
            crore::spawn(move || _ = crore::timeout(Duration::from_millis(100), work))
        } else {
            crore::spawn(work)
        };
        crore::sleep(Duration::from_millis(200));
        h.cancel();
        println!("join: {:?}", h.join());
    });
    println!("run: {r:?}");
}
