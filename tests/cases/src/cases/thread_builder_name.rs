//! The commonest idiom of std's `Builder`, with `use crore as thread`. It did not compile,
//! because `name` took `impl Into<String>`. Right: it compiles.

use crore as thread;

pub(crate) fn main() {
    crore::run(|| {
        let named = thread::Builder::new().name("worker".into());
        named.spawn(|| ()).unwrap().join().unwrap()
    })
    .unwrap();
    println!("OK");
}
