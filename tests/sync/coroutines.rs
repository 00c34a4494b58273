//! Promise: `crore::sync` works between coroutines of one worker and of
//! several, on stacks of their own and on shared ones.

use crate::suite::Spawner;

struct Coroutines {
    shared: bool,
}

impl Spawner for Coroutines {
    type Handle<T: Send + 'static> = crore::JoinHandle<T>;

    fn spawn<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Self::Handle<T> {
        if self.shared {
            // SAFETY: the suite's bodies own all they use (`'static`), start
            // no scoped threads, and wait in crore's own functions only.
            unsafe { crore::spawn_shared(f) }
        } else {
            crore::spawn(f)
        }
    }

    fn try_join<T: Send + 'static>(&self, handle: Self::Handle<T>) -> Option<T> {
        handle.join().ok()
    }

    fn yield_now() {
        crore::yield_now();
    }
}

fn on(workers: usize, shared: bool, body: impl FnOnce(&Coroutines)) {
    let runtime = crore::Runtime::builder()
        .workers(workers)
        .shared_stacks(2, 256 * 1024)
        .build();
    runtime
        .unwrap()
        .run(|| body(&Coroutines { shared }))
        .unwrap();
}

macro_rules! kinds {
    ($($kind:ident: $workers:expr, $shared:expr;)*) => {
        $(
            mod $kind {
                fn with(body: impl FnOnce(&super::Coroutines)) {
                    super::on($workers, $shared, body);
                }
                crate::suite!(with);
            }
        )*
    };
}

kinds! {
    one_worker: 1, false;
    two_workers: 2, false;
    four_workers: 4, false;
    shared_stacks: 1, true;
}
