//! A coroutine that obeys commands, and whose frames are full of pointers to
//! each other.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crore::CoroutineId;

use super::{End, LOOKS};

/// Levels below the first that a coroutine goes down at most.
pub(crate) const MOST: usize = 14;

/// What a coroutine is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    /// Call one level down, with a frame of this size class.
    Deeper(u8),
    /// Return from this many levels.
    Back(u8),
    /// Yield this often.
    Yield(u8),
    /// Wait for the gate to be opened.
    Wait,
    /// Panic.
    Panic,
    /// Return from all levels.
    Return,
}

/// Where a coroutine gets its commands and says how it fares.
pub(crate) struct Seat {
    pub(crate) id: u64,
    address: Cell<Option<CoroutineId>>,
    commands: RefCell<VecDeque<Command>>,
    /// Levels whose locals live.
    pub(crate) levels: Cell<usize>,
    pub(crate) blocked: Cell<bool>,
    yielding: Cell<bool>,
    opened: Cell<u32>,
    waker: RefCell<Option<Waker>>,
    pub(crate) end: Cell<Option<End>>,
    cancelled: Cell<bool>,
}

impl Seat {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            address: Cell::new(None),
            commands: RefCell::default(),
            levels: Cell::new(0),
            blocked: Cell::new(false),
            yielding: Cell::new(false),
            opened: Cell::new(0),
            waker: RefCell::default(),
            end: Cell::new(None),
            cancelled: Cell::new(false),
        }
    }

    pub(crate) fn id_at(&self, address: CoroutineId) {
        self.address.set(Some(address));
    }

    pub(crate) fn command(&self, command: Command) {
        self.commands.borrow_mut().push_back(command);
        self.unpark();
    }

    pub(crate) fn unpark(&self) {
        self.address.get().expect("spawned").unpark();
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.set(true);
        self.address.get().expect("spawned").cancel();
    }

    pub(crate) fn open(&self) {
        self.opened.set(self.opened.get() + 1);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether it has something to do, and can.
    pub(crate) fn is_busy(&self) -> bool {
        let can = !self.blocked.get() || self.opened.get() > 0;
        let has = self.yielding.get() || self.blocked.get() || !self.commands.borrow().is_empty();
        self.end.get().is_none() && !self.cancelled.get() && can && has
    }

    fn next(&self) -> Command {
        loop {
            if let Some(command) = self.commands.borrow_mut().pop_front() {
                return command;
            }
            crore::park();
        }
    }

    fn wait(&self) {
        crore::block_on(poll_fn(|cx| {
            let opened = self.opened.get();
            self.blocked.set(opened == 0);
            if opened == 0 {
                self.waker.replace(Some(cx.waker().clone()));
                return Poll::Pending;
            }
            self.opened.set(opened - 1);
            Poll::Ready(())
        }));
    }
}

/// What a coroutine returns.
pub(crate) fn result(id: u64) -> u64 {
    pattern(id, 0, 0)
}

/// The body.
pub(crate) fn coroutine(seat: &Seat) -> u64 {
    level::<1>(seat, None);
    seat.end.set(Some(End::Returned));
    result(seat.id)
}

/// How a level is left.
enum Way {
    /// Return from so many more.
    Back(u8),
    Out,
}

/// The locals of one level, with pointers to themselves and to those above.
struct Link<'a> {
    id: u64,
    depth: usize,
    /// Also on the heap, so that a lost frame is a leak as well.
    boxed: Box<u64>,
    /// In the same frame.
    pad: &'a [u64],
    /// Where this link is.
    own: Cell<*const ()>,
    up: Option<&'a Link<'a>>,
}

impl Link<'_> {
    /// Looks at all levels from here up.
    fn look(&self) {
        LOOKS.set(LOOKS.get() + 1);
        let mut link = self;
        loop {
            let (id, depth) = (link.id, link.depth);
            assert!(
                std::ptr::eq(link.own.get(), std::ptr::from_ref(link).cast()),
                "{id}: level {depth} has moved"
            );
            assert_eq!(
                *link.boxed,
                pattern(id, depth, 0),
                "{id}: box of level {depth}"
            );
            for (i, &word) in link.pad.iter().enumerate() {
                assert_eq!(
                    word,
                    pattern(id, depth, i + 1),
                    "{id}: word {i} of level {depth}"
                );
            }
            let Some(up) = link.up else { break };
            assert_eq!((up.id, up.depth + 1), (id, depth), "somebody else's level");
            link = up;
        }
        assert_eq!(link.depth, 0);
    }
}

/// Says that a level's locals live; looks at them once more when they die,
/// also by an unwind.
struct Alive<'a>(&'a Seat, &'a Link<'a>);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        // A panic while unwinding ends the process, which is what it should.
        self.1.look();
        self.0.levels.set(self.0.levels.get() - 1);
    }
}

#[inline(never)]
fn level<const WORDS: usize>(seat: &Seat, up: Option<&Link<'_>>) -> Way {
    let (id, depth) = (seat.id, up.map_or(0, |up| up.depth + 1));
    let pad: [u64; WORDS] = std::array::from_fn(|i| pattern(id, depth, i + 1));
    let link = Link {
        id,
        depth,
        boxed: Box::new(pattern(id, depth, 0)),
        pad: std::hint::black_box(&pad),
        own: Cell::new(std::ptr::null()),
        up,
    };
    link.own.set((&raw const link).cast());
    seat.levels.set(depth + 1);
    let _alive = Alive(seat, &link);
    loop {
        let command = seat.next();
        link.look();
        match command {
            Command::Deeper(_) if depth == MOST => {}
            Command::Deeper(size) => match deeper(size, seat, &link) {
                Way::Back(0) => {}
                Way::Back(more) if depth > 0 => return Way::Back(more - 1),
                Way::Back(_) => {}
                Way::Out => return Way::Out,
            },
            Command::Back(by) if by > 0 && depth > 0 => return Way::Back(by - 1),
            Command::Back(_) => {}
            Command::Yield(times) => {
                for _ in 0..times {
                    seat.yielding.set(true);
                    crore::yield_now();
                    seat.yielding.set(false);
                    link.look();
                }
            }
            Command::Wait => {
                seat.wait();
                link.look();
            }
            Command::Panic => {
                seat.end.set(Some(End::Panicked));
                std::panic::resume_unwind(Box::new(id));
            }
            Command::Return => return Way::Out,
        }
    }
}

fn deeper(size: u8, seat: &Seat, link: &Link<'_>) -> Way {
    match size % 6 {
        0 => level::<1>(seat, Some(link)),
        1 => level::<3>(seat, Some(link)),
        2 => level::<16>(seat, Some(link)),
        3 => level::<60>(seat, Some(link)),
        4 => level::<300>(seat, Some(link)),
        _ => level::<1000>(seat, Some(link)),
    }
}

fn pattern(id: u64, depth: usize, i: usize) -> u64 {
    let word = id << 32 | (depth as u64) << 16 | i as u64;
    word.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
