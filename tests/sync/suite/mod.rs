//! The behaviours of `crore::sync` that hold whoever waits: functions generic
//! over a [`Spawner`]. [`suite!`](crate::suite) makes a test of each.
//!
//! In the spirit of Go's channel tests (`chan_test.go`, `fifo_test.go`,
//! `doubleselect.go`) and of std's for mpsc, mutex, condvar, rwlock, barrier.
//! Nothing here sleeps to win a race, and nothing needs preemption: loops that
//! wait for another yield.

pub(crate) mod channels;
pub(crate) mod locks;
pub(crate) mod news;
pub(crate) mod selects;

/// What runs the bodies: threads, or coroutines of some kind.
pub(crate) trait Spawner {
    /// A started body.
    type Handle<T: Send + 'static>;
    /// Starts `f` beside the caller.
    fn spawn<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Self::Handle<T>;
    /// Waits for its end; `None` if it panicked.
    fn try_join<T: Send + 'static>(&self, handle: Self::Handle<T>) -> Option<T>;
    /// Lets others run.
    fn yield_now();

    /// Waits for its result.
    fn join<T: Send + 'static>(&self, handle: Self::Handle<T>) -> T {
        self.try_join(handle).expect("the body panicked")
    }

    /// Runs `f(0)` to `f(n - 1)` beside each other to the end.
    fn fan<T: Send + 'static>(
        &self,
        n: usize,
        f: impl Fn(usize) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let handles: Vec<_> = (0..n)
            .map(|i| {
                let f = f.clone();
                self.spawn(move || f(i))
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| self.join(handle))
            .collect()
    }
}

/// A small generator with a fixed seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }
}

/// Makes a test of each function of the suite. `$with` is called with a body
/// that takes a spawner, and runs it where it should run.
#[macro_export]
macro_rules! suite {
    ($with:path) => {
        $crate::suite!(@ $with, channels:
            fifo_for_every_capacity, ping_pong, rendezvous_returns_after_the_handover,
            every_value_reaches_one_receiver, prime_sieve, buffered_values_outlive_their_senders,
            waiting_receivers_learn_of_the_last_sender, waiting_senders_get_their_values_back,
            values_are_dropped_once, timeouts_return_what_they_had, ends_say_what_is_between,
            iterators_end,
            a_stream_through_stages, mixed_forms_agree);
        $crate::suite!(@ $with, news:
            oneshot_gives_one_value, broadcast_tells_all, broadcast_says_what_was_missed,
            watch_shows_the_last, watch_waits_for_what_is_wanted, owned_guards_keep_their_locks,
            owned_guards_poison);
        $crate::suite!(@ $with, selects:
            two_selects_meet, several_selects_balance, ready_cases_are_all_chosen,
            merging_ends_when_all_are_closed, select_sends_and_receives_on_one_channel,
            default_and_timeout, untaken_values_stay);
        $crate::suite!(@ $with, locks:
            mutex_counts, mutex_serves_all_who_wait, mutex_poisons, try_lock_while_held,
            condvar_ping_pong, condvar_wakes_all, condvar_waits_while, condvar_times_out,
            rwlock_has_readers_together, rwlock_excludes, rwlock_lets_the_writer_in,
            rwlock_poisons_on_write_only, rwlock_downgrades, barrier_has_one_leader_a_round,
            semaphore_bounds, semaphore_wakes_for_many, semaphore_closes, notify_hands_on,
            notify_wakes_all, once_runs_once, once_retries_after_a_panic, lazy_is_made_once);
    };
    (@ $with:path, $module:ident: $($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                $with(|s| $crate::suite::$module::$name(s));
            }
        )*
    };
}
