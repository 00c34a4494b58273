//! Coroutines of each kind, parked, for a debugger to look at: see `scripts/gdb/crore.py`.
//!
//! It says `ready` and waits for its input to end.

use std::hint::black_box;
use std::io::Read;
use std::time::Duration;

use crore::{Builder, CoroutineState, Handle};

fn main() -> std::io::Result<()> {
    // gdb's own `gcore` leaves out the megabyte around a guard of the lighter kind.
    let builder = crore::Runtime::builder().mprotect_guards(true);
    let runtime = builder.shared_stacks(1, 256 << 10).build()?;
    let _inspected = crore_inspect::serve(runtime.handle())?;
    runtime.run(|| {
        let own = Builder::new().name("own".into());
        let own = own.spawn(|| waits_in_a_call(3))?;
        // SAFETY: nobody else points into their frames.
        let shared =
            (4..7).map(|depth| unsafe { crore::spawn_shared(move || waits_in_a_call(depth)) });
        let mut all: Vec<_> = shared.chain([own]).collect();
        all.push(crore::spawn(|| {
            crore::sleep(Duration::from_secs(1_000_000));
            0
        }));
        if crore::local::own_thread_locals().is_ok() {
            let like_a_thread = Builder::new().name("like a thread".into());
            let like_a_thread = like_a_thread.own_thread_locals(true);
            all.push(like_a_thread.spawn(|| waits_in_a_call(7))?);
        }
        let parked = || {
            let dump = Handle::current().expect("it runs here").dump();
            let parked = dump
                .iter()
                .filter(|one| one.state() == CoroutineState::Parked);
            parked.count()
        };
        // This one, too: it waits for the answer.
        while parked() <= all.len() {
            crore::yield_now();
        }
        all_are_parked();
        println!("ready");
        let _ = std::io::stdin().read(&mut [0]);
        all.iter().for_each(|one| one.cancel());
        all.into_iter().for_each(|one| drop(one.join()));
        Ok(())
    })?
}

#[inline(never)]
fn waits_in_a_call(depth: u32) -> u32 {
    match black_box(depth) {
        0 => crore::park(),
        _ => return 1 + waits_in_a_call(depth - 1),
    }
    0
}

/// Where a debugger stops it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn all_are_parked() {
    black_box(());
}
