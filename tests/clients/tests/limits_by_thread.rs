//! What libraries that know a thread by its thread-locals do in coroutines that
//! share those: kept here so that the page says so as long as it holds. With
//! thread-locals of their own is in `like_threads_….rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crore_clients::{crowd, each, on_one_thread};

/// How long something waits for what can't come: the thread stands still.
const PATIENCE: Duration = Duration::from_millis(200);

#[test]
fn channels_of_std_stop_the_thread() {
    on_one_thread(|| {
        let (say, said) = mpsc::channel();
        crore::spawn_local(move || say.send(()));
        let late = said.recv_timeout(PATIENCE);
        assert!(late.is_err(), "it works: say so on the page");
        crore::yield_now();
        assert!(said.try_recv().is_ok());
    });
}

#[test]
fn rayon_stops_the_thread() {
    on_one_thread(|| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
        let pool = pool.build().unwrap();
        let (say, said) = mpsc::channel();
        crore::spawn_local(move || say.send(()));
        let late = pool.install(|| {
            let late = said.recv_timeout(PATIENCE);
            drop(said);
            late
        });
        assert!(late.is_err(), "it works: say so on the page");
    });
}

#[test]
fn tokio_refuses_the_second_block_on() {
    on_one_thread(|| {
        let (results, _) = crowd(2, |_| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            let sleep = || runtime.block_on(async { tokio::time::sleep(PATIENCE).await });
            let result = catch_unwind(AssertUnwindSafe(sleep));
            // Its destructor would be refused, too.
            (result.is_err(), runtime)
        });
        let refused: Vec<_> = results.iter().map(|(refused, _)| *refused).collect();
        each(&refused, |i| i == 1);
    });
}

#[test]
fn spans_of_tracing_get_mixed() {
    on_one_thread(|| {
        let registry = tracing_subscriber::registry();
        let _default = tracing::subscriber::set_default(registry);
        let (alone, _) = crowd(2, |n| {
            let span = tracing::info_span!("one", n).entered();
            crore::yield_now();
            tracing::Span::current().id() == span.id()
        });
        assert_ne!(alone, [true, true], "it works: say so on the page");
    });
}

#[test]
fn all_have_one_id_and_one_set_of_thread_locals() {
    on_one_thread(|| {
        let here = thread::current().id();
        let (same, _) = crowd(2, move |_| thread::current().id() == here);
        each(&same, |_| true);
        thread_local!(static SEEN: std::cell::Cell<usize> = const { std::cell::Cell::new(7) });
        let (seen, _) = crowd(2, |i| SEEN.replace(i));
        each(&seen, |i| [7, 0][i]);
    });
}
