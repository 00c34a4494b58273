//! The handle of a coroutine that has ended, after 2^26 spawns of the same slot. Its id had
//! come to mean a stranger, which `cancel` cancelled. Right: nobody is.

pub(crate) fn main() {
    crore::run(|| {
        let old = crore::spawn(|| 1);
        crore::yield_now();
        assert!(old.is_finished());
        let id = old.coroutine().id();
        for i in 1..=(1u64 << 26) + 1 {
            let h = crore::spawn(crore::park);
            if h.coroutine().id() == id {
                println!("the id is back after {i} spawns");
                crore::yield_now();
                old.cancel(); // it ended long ago
                crore::sleep(std::time::Duration::from_millis(50));
                println!(
                    "the stranger: finished {} {:?}",
                    h.is_finished(),
                    h.is_finished().then(|| h.join())
                );
                return;
            }
            h.coroutine().unpark();
            h.join().unwrap();
        }
    })
    .unwrap();
}
