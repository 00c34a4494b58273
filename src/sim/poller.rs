//! The poller of a simulation's worker: the kernel's event queue, in which nothing ever
//! sleeps. Where a worker would, the time jumps to what comes next.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use super::world::{Simulated, current};
use crate::driver::{
    Backend, DeregisterFn, Epoll, Notifier, Poller, ReadyEvent, TimeSource, WatchError, earlier,
};
use crate::sys::syscall::sys;

/// For a runtime whose `run` is called in a world.
#[derive(Debug)]
pub(super) struct SimulatedBackend;

impl Backend for SimulatedBackend {
    fn poller(&self) -> io::Result<Box<dyn Poller>> {
        let kernel = Epoll.poller()?;
        Ok(Box::new(SimulatedPoller {
            kernel,
            timer: None,
            has_napped: false,
        }))
    }

    fn time(&self) -> Option<Arc<dyn TimeSource>> {
        // Clocks ask the world already.
        None
    }
}

#[derive(Debug)]
struct SimulatedPoller {
    kernel: Box<dyn Poller>,
    /// Nanoseconds of the world's.
    timer: Option<u64>,
    /// It has napped before the jump that comes.
    has_napped: bool,
}

/// A jump that is so far may be one to the end, because all wait for another thread, which
/// has a lock of std's for a moment.
const FAR: u64 = 10_000_000_000;

/// Gives other threads that moment.
fn nap() {
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 2_000_000,
    };
    // SAFETY: a time, which is only read.
    let _ = unsafe { sys!(SYS_nanosleep, &raw const time, 0) };
}

fn world() -> &'static Simulated {
    current().expect("the worker of a simulation")
}

impl Poller for SimulatedPoller {
    fn register(&mut self, fd: RawFd, serial: u32) -> Result<(), WatchError> {
        self.kernel.register(fd, serial)
    }

    fn reregister(&mut self, fd: RawFd, serial: u32) -> Result<(), WatchError> {
        self.kernel.reregister(fd, serial)
    }

    fn deregister(&mut self, fd: RawFd) {
        self.kernel.deregister(fd);
    }

    fn wait(&mut self, block: bool, events: &mut Vec<ReadyEvent>) -> io::Result<bool> {
        let world = world();
        world.pump();
        world.deliver();
        world.within(|| self.kernel.wait(false, events))?;
        if block && events.is_empty() {
            let arrival = world.net.borrow().next();
            match earlier(self.timer, arrival) {
                Some(next) if next.saturating_sub(world.now()) >= FAR && !self.has_napped => {
                    self.has_napped = true;
                    world.within(nap);
                    return Ok(false);
                }
                Some(next) => {
                    self.has_napped = false;
                    world.jump(next);
                    world.deliver();
                }
                // Only another thread can end this.
                None => drop(world.within(|| self.kernel.wait(true, events))?),
            }
        }
        Ok(self.timer.take_if(|at| *at <= world.now()).is_some())
    }

    fn notifier(&self) -> Notifier {
        self.kernel.notifier()
    }

    fn deregister_by_number(&self) -> DeregisterFn {
        self.kernel.deregister_by_number()
    }

    fn arm(&mut self, delay: Duration) -> io::Result<()> {
        self.timer = Some(world().now() + delay.as_nanos() as u64);
        Ok(())
    }

    fn is_tcp_stream(&self, _: RawFd) -> bool {
        // Here they are Unix sockets.
        false
    }
}
