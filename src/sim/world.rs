//! The world of a simulation: what its coroutines find in the place of the kernel's
//! clock, chance and network. One thread runs a simulation, and it alone is in here.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_int, c_long};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::time::Duration;

use super::calls::CallFaults;
use super::caught::CaughtEscapes;
use super::chance::Chance;
use super::descriptors::Descriptors;
use super::disks::Disks;
use super::machines::{Machines, NodeId};
use super::net::Net;
use super::order::{Order, Schedule};
use super::trace::{Event, EventEntry, History, HistoryProbe, TraceLines};
use crate::hook;
use crate::sched::{CurrentTask, Worker};
use crate::sys::fd::own;
use crate::sys::simulated::{self, World};
use crate::sys::syscall::{Answer, Errno};
use crate::task::set_unhooked;

/// What it takes to choose who is next and to go on there.
const RESUME_NANOS: u64 = 1_000;

/// Of coroutines that are no machine's.
pub(super) const NOBODY: u32 = u32::MAX;

/// What is known of a coroutine, by its slot.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) node: u32,
    pub(super) serial: usize,
}

/// How a machine's clock of the day differs from the true time.
#[derive(Clone, Copy, Default)]
pub(super) struct Skew {
    /// Nanoseconds ahead.
    pub(super) offset: i64,
    /// Nanoseconds gained in a second.
    pub(super) drift: i64,
}

/// See the [module](self).
pub(super) struct Simulated {
    pub(super) seed: u64,
    now: Cell<u64>,
    /// Its own calls are the kernel's.
    inside: Cell<bool>,
    /// A program may have sent something.
    dirty: Cell<bool>,
    /// The machine of what is spawned next by nobody.
    spawns_for: Cell<u32>,
    known: RefCell<Vec<Known>>,
    serials: Cell<usize>,
    pub(super) net: RefCell<Net>,
    pub(super) names: Vec<String>,
    pub(super) skews: RefCell<Vec<Skew>>,
    order: RefCell<Order>,
    /// What programs draw.
    pub(super) chance: RefCell<Chance>,
    preempts: f64,
    preempting: RefCell<Chance>,
    pub(super) trace: RefCell<History>,
    pub(super) machines: Machines,
    disks: RefCell<Option<Disks>>,
    pub(super) descriptors: RefCell<Descriptors>,
    pub(super) calls: RefCell<CallFaults>,
    /// The last call that was short, if that was the last that moved bytes.
    pub(super) ended_short: Cell<Option<RawFd>>,
    /// What passed the hooks, if somebody looks.
    pub(super) escapes: Option<CaughtEscapes>,
}

/// What a world is made of.
pub(super) struct Recipe {
    pub(super) seed: u64,
    pub(super) names: Vec<String>,
    pub(super) machines: Machines,
    pub(super) schedule: Schedule,
    pub(super) preempts: f64,
    pub(super) lines: Option<TraceLines>,
    pub(super) probe: HistoryProbe,
    /// Where the machines' disks are, if they have some.
    pub(super) disks: Option<PathBuf>,
    /// Whether somebody looks for what passes the hooks.
    pub(super) watched: bool,
}

/// A thread is in a world until this is dropped.
pub(super) struct InWorld<'a>(&'a Simulated);

impl<'a> InWorld<'a> {
    pub(super) fn new(world: &'a Simulated) -> Self {
        let seen: NonNull<dyn World + 'a> = NonNull::from(world as &(dyn World + 'a));
        // SAFETY: the same pointer; what lifetime stands in its type nobody asks.
        let seen: NonNull<dyn World> = unsafe { std::mem::transmute(seen) };
        // SAFETY: until this, which borrows the world, is dropped.
        unsafe { simulated::enter(Some(seen)) };
        Self(world)
    }

    pub(super) fn world(&self) -> &'a Simulated {
        self.0
    }
}

impl Drop for InWorld<'_> {
    fn drop(&mut self) {
        // SAFETY: there is no world from here on.
        unsafe { simulated::enter(None) };
    }
}

/// The world that the calling code is in.
pub(super) fn current() -> Option<&'static Simulated> {
    simulated::world()?.as_any().downcast_ref()
}

impl Simulated {
    pub(super) fn new(recipe: Recipe) -> Self {
        let mut chance = Chance::new(recipe.seed);
        let mut net = Net::new(chance.split().draw());
        for name in &recipe.names {
            net.add_node(name);
        }
        let disks = chance.split();
        let disks = recipe
            .disks
            .map(|root| Disks::new(&root, &recipe.names, disks));
        let trace = History::new(recipe.lines, recipe.probe);
        Self {
            seed: recipe.seed,
            now: Cell::new(0),
            inside: Cell::new(false),
            dirty: Cell::new(false),
            spawns_for: Cell::new(NOBODY),
            known: RefCell::default(),
            serials: Cell::new(0),
            net: RefCell::new(net),
            skews: RefCell::new(vec![Skew::default(); recipe.names.len()]),
            calls: RefCell::new(CallFaults::new(recipe.names.len())),
            ended_short: Cell::new(None),
            names: recipe.names,
            order: RefCell::new(Order::new(recipe.schedule, chance.split())),
            preempts: recipe.preempts,
            preempting: RefCell::new(chance.split()),
            disks: RefCell::new(disks),
            descriptors: RefCell::default(),
            chance: RefCell::new(chance),
            trace: RefCell::new(trace),
            machines: recipe.machines,
            escapes: recipe.watched.then(CaughtEscapes::new),
        }
    }

    /// Nanoseconds since it began.
    pub(super) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(super) fn takes(&self, nanos: u64) -> u64 {
        self.now.set(self.now.get() + nanos);
        self.now.get()
    }

    /// Nothing can run: it is this time now.
    pub(super) fn jump(&self, to: u64) {
        self.now.set(self.now.get().max(to));
    }

    /// Calls `f`, whose system calls are the kernel's.
    pub(super) fn within<T>(&self, f: impl FnOnce() -> T) -> T {
        struct Within<'a>(&'a Cell<bool>, bool, bool);
        impl Drop for Within<'_> {
            fn drop(&mut self) {
                self.0.set(self.1);
                set_unhooked(self.2);
            }
        }
        // Nor does it wait for other threads as coroutines do.
        let unhooked = set_unhooked(true);
        let _leave = Within(&self.inside, self.inside.replace(true), unhooked);
        f()
    }

    /// Whether the calls that are made now are the kernel's.
    pub(super) fn is_inside(&self) -> bool {
        self.inside.get()
    }

    /// Takes up what programs have sent.
    pub(super) fn pump(&self) {
        if self.dirty.take() {
            self.within(|| self.net.borrow_mut().pump(self.now()));
        }
    }

    /// Does something to the network as it is now.
    pub(super) fn on_net<T>(&self, f: impl FnOnce(&mut Net) -> T) -> T {
        self.within(|| {
            let mut net = self.net.borrow_mut();
            net.pump(self.now());
            f(&mut net)
        })
    }

    /// Delivers what is due.
    pub(super) fn deliver(&self) {
        let mut net = self.net.borrow_mut();
        if net.next().is_some_and(|at| at <= self.now()) {
            // There is room for more on the way then.
            self.within(|| {
                net.advance(self.now());
                net.pump(self.now());
            });
        }
    }

    /// Runs `spawn`, whose coroutines are this machine's.
    pub(super) fn for_node<T>(&self, node: NodeId, spawn: impl FnOnce() -> T) -> T {
        self.spawns_for.set(node as u32);
        let result = spawn();
        self.spawns_for.set(NOBODY);
        result
    }

    /// All that nobody has spawned is this machine's.
    pub(super) fn spawn_all_for(&self, node: NodeId) {
        self.spawns_for.set(node as u32);
    }

    /// The running coroutine.
    pub(super) fn here(&self) -> Option<Known> {
        let slot = CurrentTask::running()?.slot();
        let index = Worker::current()?.slot_index(slot);
        self.known.borrow().get(index as usize).copied()
    }

    /// The running coroutine's machine.
    pub(super) fn node(&self) -> Option<NodeId> {
        let node = self.here()?.node;
        (node != NOBODY).then_some(node as usize)
    }

    pub(super) fn name(&self, node: NodeId) -> &str {
        &self.names[node]
    }

    /// # Panics
    ///
    /// If there is no such machine.
    pub(super) fn find(&self, name: &str) -> NodeId {
        let found = self.names.iter().position(|one| one == name);
        found.unwrap_or_else(|| panic!("no node `{name}` in this simulation: {:?}", self.names))
    }

    /// No crash undoes what was written from here on.
    pub(super) fn keep_disks(&self) {
        let disks = self.disks.take();
        self.within(|| drop(disks));
    }

    pub(super) fn has_disks(&self) -> bool {
        self.disks.borrow().is_some()
    }

    pub(super) fn on_disks<T>(&self, f: impl FnOnce(&mut Disks) -> T) -> Option<T> {
        let mut disks = self.disks.borrow_mut();
        disks.as_mut().map(|disks| self.within(|| f(disks)))
    }

    /// All coroutines of a machine are gone, and its sockets.
    pub(super) fn crash(&self, node: NodeId) {
        for fd in self.on_net(|net| net.crash(node)) {
            // SAFETY: the machine's own, whose code runs no more.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        let known = self.known.borrow();
        let is_its = |slot: u32| {
            known
                .get(slot as usize)
                .is_some_and(|it| it.node == node as u32)
        };
        let worker = Worker::current().expect("a simulation's worker");
        // Nobody runs before all are gone, though ends of threads wake who joins them.
        self.within(|| hook::forget_waiters(&worker.forget_tasks(is_its)));
        self.within(|| self.descriptors.borrow_mut().crash(node));
        self.on_disks(|disks| disks.crash(node));
    }

    /// Notes what the test, or the plan of faults, does.
    pub(super) fn did(&self, number: u64, what: std::fmt::Arguments<'_>) {
        let mut trace = self.trace.borrow_mut();
        self.within(|| trace.note(self.entry(0, Event::Fault(number))));
        self.within(|| trace.say(self.now(), "fault", what));
    }

    fn entry(&self, serial: usize, event: Event) -> EventEntry {
        EventEntry {
            now: self.now(),
            serial,
            event,
        }
    }

    fn note(&self, number: c_long, fd: usize, answer: Answer) {
        let Some(known) = self.here() else { return };
        // What the runtime says to others in this process is not the program's.
        if own::is_own(fd as RawFd) {
            return;
        }
        let Some(name) = noted(number, answer) else {
            return;
        };
        let answer = answer.map(|value| if gives_number(number) { 0 } else { value });
        let mut trace = self.trace.borrow_mut();
        self.within(|| trace.note(self.entry(known.serial, Event::Called(number, answer))));
        let is_news = !matches!(number, libc::SYS_clock_gettime | libc::SYS_gettimeofday);
        if is_news {
            self.say(&mut trace, known, (fd as RawFd, name), answer);
        }
    }

    /// Notes a call that fails before it is made.
    pub(super) fn note_failure(&self, fd: RawFd, name: &str, code: Errno) {
        let Some(known) = self.here() else { return };
        let mut trace = self.trace.borrow_mut();
        self.within(|| trace.note(self.entry(known.serial, Event::Fails(code))));
        self.say(&mut trace, known, (fd, name), Err(code));
    }

    /// Says what a call of a machine's came to, if somebody wants to read it.
    fn say(&self, trace: &mut History, known: Known, (fd, name): (RawFd, &str), answer: Answer) {
        if trace.lines.is_none() || known.node == NOBODY {
            return;
        }
        let on = self.within(|| self.net.borrow().describe(fd));
        let on = on.unwrap_or_default();
        let who = format!("{} #{}", self.name(known.node as usize), known.serial);
        self.within(|| match answer {
            Ok(count) => trace.say(self.now(), &who, format_args!("{name} {on} → {count}")),
            Err(code) => {
                let why = std::io::Error::from_raw_os_error(code);
                trace.say(self.now(), &who, format_args!("{name} {on} → {why}"));
            }
        });
    }
}

impl World for Simulated {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn answer(&self, number: c_long, args: [usize; 6]) -> Option<Answer> {
        if self.inside.get() {
            return None;
        }
        // SAFETY: the caller's call.
        let told = unsafe {
            self.tell(number, args)
                .or_else(|| self.random_bytes(number, args))
        };
        if let Some(answer) = told {
            self.note(number, args[0], answer);
            return Some(answer);
        }
        let node = self.node()?;
        if let Some(answer) = self.lacks_descriptors(node, number, args) {
            return Some(answer);
        }
        // SAFETY: as above.
        if let Some(answer) = unsafe { self.short(node, number, args) } {
            self.dirty.set(true);
            self.note(number, args[0], answer);
            return Some(answer);
        }
        let call = || {
            let mut net = self.net.borrow_mut();
            // SAFETY: as above.
            unsafe { net.call(self.now(), node, number, args) }
        };
        let Some(answer) = self.within(call) else {
            // SAFETY: as above.
            if let Some(answer) = unsafe { self.on_files(node, number, args) } {
                // Failures are noted where they are made.
                if answer.is_ok() {
                    self.note(number, args[0], answer);
                }
                return Some(answer);
            }
            self.on_disks(|disks| {
                // SAFETY: as above.
                unsafe { disks.before(node, number, args) }
            });
            return None;
        };
        self.dirty.set(true);
        self.note(number, args[0], answer);
        Some(answer)
    }

    fn answered(&self, number: c_long, args: [usize; 6], answer: Answer) {
        if let Some(node) = self.node().filter(|_| !self.inside.get()) {
            self.dirty.set(true);
            self.on_disks(|disks| disks.after(node, number, args[0] as RawFd, answer));
            self.within(|| {
                let mut descriptors = self.descriptors.borrow_mut();
                descriptors.called(node, number, args, answer);
            });
            self.note(number, args[0], answer);
        }
    }

    fn resolve(&self, name: &CStr) -> Option<CString> {
        let name = name.to_str().ok()?;
        let digits = match name {
            "localhost" => "127.0.0.1".to_owned(),
            _ => self.net.borrow().resolve(name)?.to_string(),
        };
        CString::new(digits).ok()
    }

    fn host_name(&self) -> Option<&str> {
        self.node().map(|node| self.name(node))
    }

    fn next(&self, queue: &VecDeque<u32>) -> usize {
        self.pump();
        self.trace_escapes();
        self.takes(RESUME_NANOS);
        let known = self.known.borrow();
        let serial = |slot: &u32| known.get(*slot as usize).map_or(0, |it| it.serial);
        let next = self.order.borrow_mut().next(queue.iter().map(serial));
        let mut trace = self.trace.borrow_mut();
        trace.note(self.entry(serial(&queue[next]), Event::Resumed));
        next
    }

    fn born(&self, slot: u32) {
        let node = match self.spawns_for.get() {
            NOBODY => self.here().map_or(NOBODY, |mother| mother.node),
            node => node,
        };
        let serial = self.serials.get() + 1;
        self.serials.set(serial);
        let mut known = self.known.borrow_mut();
        if known.len() <= slot as usize {
            known.resize(
                slot as usize + 1,
                Known {
                    node: NOBODY,
                    serial: 0,
                },
            );
        }
        known[slot as usize] = Known { node, serial };
    }

    fn suspends(&self) {
        if let Some(known) = self.here() {
            let entry = self.entry(known.serial, Event::Suspends);
            self.within(|| self.trace.borrow_mut().note(entry));
        }
    }

    fn refuses(&self, fd: c_int, never_waits: bool) -> Result<(), c_int> {
        self.refusal(fd, never_waits).map_or(Ok(()), Err)
    }

    fn sync_takes(&self, fd: c_int) -> Option<Duration> {
        self.time_of_sync(fd)
    }

    fn ended_short(&self, fd: c_int) -> bool {
        self.ended_short.get() == Some(fd)
    }

    fn tosses(&self) -> bool {
        self.preempting.borrow_mut().happens(0.5)
    }

    fn passed(&self, number: c_long, args: [usize; 6], registers: &libc::ucontext_t) {
        self.catch(number, args, registers);
    }

    fn preempts(&self) -> bool {
        self.preempts > 0.0
            && !self.inside.get()
            && self.node().is_some()
            && self.preempting.borrow_mut().happens(self.preempts)
    }
}

/// Whether what a call returns is a descriptor, which others of the process decide, too.
fn gives_number(number: c_long) -> bool {
    matches!(
        number,
        libc::SYS_socket | libc::SYS_accept4 | libc::SYS_openat | libc::SYS_dup
    )
}

/// The name of a call whose result is the seed's: it belongs to the history.
fn noted(number: c_long, answer: Answer) -> Option<&'static str> {
    Some(match number {
        libc::SYS_socket => "socket",
        libc::SYS_bind => "bind",
        libc::SYS_listen => "listen",
        libc::SYS_connect => "connect",
        libc::SYS_accept4 => "accept",
        libc::SYS_shutdown => "shutdown",
        libc::SYS_recvfrom | libc::SYS_recvmsg => "recv",
        libc::SYS_sendto | libc::SYS_sendmsg => "send",
        libc::SYS_read | libc::SYS_readv => "read",
        libc::SYS_write | libc::SYS_writev => "write",
        // What is not in memory is read in another way.
        libc::SYS_preadv2 if answer.is_ok() => "read",
        libc::SYS_pwritev2 if answer.is_ok() => "write",
        libc::SYS_clock_gettime | libc::SYS_gettimeofday => "look at the clock",
        libc::SYS_getrandom => "draw",
        libc::SYS_fsync | libc::SYS_fdatasync => "fsync",
        _ => return None,
    })
}
