//! A worker's beginning and end: its parts are made, and its mailbox is opened to
//! other threads and closed again.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use slab::Slab;

use super::atfork;
use super::ends;
use super::extra::Extra;
use super::plan::Config;
use super::stacks::Stacks;
use super::tls_blocks::TlsBlocks;
use super::trim_schedule::TrimSchedule;
use super::worker::Worker;
use super::workers::Workers;
use crate::driver::Driver;
use crate::sys::simulated;
use crate::sys::stack_of_thread;
use crate::task::Slots;
use crate::util::no_park::NoParkCell;

impl Worker {
    /// A worker for this thread, the one at this position of `workers`;
    /// [`Worker::enter`] makes it the current one.
    pub(crate) fn new(workers: Arc<Workers>, position: usize, config: &Config) -> io::Result<Self> {
        atfork::watch_forks();
        super::wait_mark::begin();
        let handle = workers.handles()[position];
        let driver = Driver::new(&*config.backend)?;
        let slots = Slots::new(config.max_coroutines, handle.generations())?;
        let mut extras = Slab::new();
        // Index 0 stands for "none" in a slot.
        extras.insert(Extra::default());
        handle.mailbox.set_notifier(Some(driver.reactor.notifier()));
        // Before the runtime runs what may need the numbers.
        if config.watchdog.is_some() {
            handle.watch.open_files();
        }
        Ok(Self {
            workers,
            position,
            handle,
            slots,
            queue: NoParkCell::default(),
            trim: TrimSchedule::default(),
            stacks: Stacks::new(config.arena, config.shared, &handle.counters),
            tls: TlsBlocks::new(config.arena.keep_warm, handle.index()),
            own_tls: config.own_tls,
            threads: config.threads.clone(),
            own_stack: stack_of_thread::here(),
            polled: Cell::new(driver.clock().moment()),
            clock: driver.clock().clone(),
            deregister: driver.reactor.deregister_by_number(),
            ends: ends::Reader::new(),
            driver: NoParkCell::new(driver),
            extras: NoParkCell::new(extras),
            spawn_locations: NoParkCell::default(),
            park_time: Cell::new(0),
            budget: Cell::new(0),
            round: Cell::new(0),
            stopping: Cell::new(false),
            events_pending: Cell::new(false),
            woken: Cell::default(),
            mail: Cell::default(),
            ended_notified: Cell::new(0),
            driven: Cell::new(false),
            callee: Cell::new(0),
            calls: Cell::new(0),
            grown_shared: Cell::new(0),
            world: simulated::entered(),
            cold: Cell::new(0),
            spins: Cell::new(false),
            #[cfg(feature = "trace")]
            noted_wait: Cell::default(),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.handle.mailbox.set_notifier(None);
        self.handle.watch.close_files();
        self.handle.set_generations(self.slots.generations());
    }
}
