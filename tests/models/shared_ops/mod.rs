//! Real coroutines on shared stacks, driven by a list of operations and
//! compared with a model. For `cargo test` and `cargo fuzz` alike.
//!
//! An input is one byte that shapes the run, then operations of three bytes
//! each: what, to whom, how much. Every input is valid. The coroutines obey
//! commands (see [`deep`]): go deeper, come back, yield, wait, panic, end. At
//! every step each looks at all its frames; whenever all have settled, the
//! model says how deep each must be, or how it must have ended.

mod deep;

use std::cell::Cell;
use std::rc::Rc;

use crore::{JoinHandle, Runtime};

use deep::{Command, Seat};

/// Coroutines alive at a time.
const SEATS: usize = 12;

/// How a coroutine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Returned,
    Panicked,
    Cancelled,
}

/// What must be true of the coroutine in a seat.
struct Model {
    seat: Rc<Seat>,
    /// `None` once it was dropped.
    handle: Option<JoinHandle<u64>>,
    /// Sizes of the levels below the first.
    levels: Vec<u8>,
    /// Commands that it has not been given the time to obey.
    pending: Vec<Command>,
    /// Gates that were opened and not passed.
    opened: u32,
    /// Waits at its gate.
    blocked: bool,
    end: Option<End>,
    /// It must have ended, in whatever way.
    any_end: bool,
}

/// Runs the operations of one input.
pub(crate) fn run(input: &[u8], check: bool) {
    let Some((&shape, operations)) = input.split_first() else {
        return;
    };
    let runtime = Runtime::builder()
        .shared_stacks(1 + u32::from(shape % 3), 1 << 20)
        .max_coroutines(64)
        .check_shared(check)
        .build()
        .expect("a runtime");
    let left = runtime
        .run(|| {
            let mut models = Vec::new();
            models.resize_with(SEATS, || None);
            let mut serial = 0;
            for operation in operations.chunks_exact(3) {
                obey(&mut models, operation, &mut serial);
            }
            settle(&mut models);
            // Those that still live are cancelled by the end of `run`, some
            // with their handles dropped.
            let left: Vec<_> = models.into_iter().flatten().collect();
            left.into_iter().map(|model| model.seat).collect::<Vec<_>>()
        })
        .expect("the runtime runs");
    for seat in left {
        assert_eq!(seat.levels.get(), 0, "{}: a frame was not unwound", seat.id);
        assert_eq!(
            Rc::strong_count(&seat),
            1,
            "{}: its closure lives on",
            seat.id
        );
    }
    let metrics = runtime.metrics();
    assert_eq!(metrics.spawned, metrics.ended);
    assert_eq!(metrics.abandoned, 0);
}

fn obey(models: &mut [Option<Model>], operation: &[u8], serial: &mut u64) {
    let (what, amount) = (operation[0] % 13, operation[2]);
    let seat = &mut models[usize::from(operation[1]) % SEATS];
    match (what, seat) {
        (0, seat) => {
            if seat.is_none() {
                *serial += 1;
                *seat = Some(Model::spawn(*serial, amount));
            }
        }
        (1, _) => crore::yield_now(),
        (2, _) => settle(models),
        (_, None) => {}
        (3 | 4, Some(model)) => model.command(Command::Deeper(amount)),
        (5, Some(model)) => model.command(Command::Back(amount % 4)),
        (6, Some(model)) => model.command(Command::Yield(amount % 4)),
        (7, Some(model)) => model.command(Command::Wait),
        (8, Some(model)) => {
            model.opened += 1;
            model.seat.open();
        }
        // A wake-up that means nothing: it looks, and parks again.
        (9, Some(model)) => model.unpark(),
        // Most of them live for a while.
        (10, Some(model)) => model.command(match amount % 8 {
            0 => Command::Panic,
            1 => Command::Return,
            more => Command::Yield(more),
        }),
        (11, Some(model)) if amount % 4 == 0 => model.cancel(),
        (11, Some(model)) => model.command(Command::Deeper(amount)),
        (_, Some(model)) => model.handle = None,
    }
}

/// Lets all run until nobody has anything to do, then compares.
fn settle(models: &mut [Option<Model>]) {
    let mut turns = 0;
    while models.iter().flatten().any(Model::is_busy) {
        crore::yield_now();
        turns += 1;
        assert!(turns < 100_000, "somebody does not do as told");
    }
    // One more for those that were woken only to look.
    crore::yield_now();
    for place in models {
        let Some(model) = place else { continue };
        model.advance();
        model.compare();
        if model.end.is_some() {
            *place = None;
        }
    }
}

impl Model {
    fn spawn(serial: u64, amount: u8) -> Self {
        let seat = Rc::new(Seat::new(serial));
        let theirs = Rc::clone(&seat);
        let body = move || deep::coroutine(&theirs);
        let handle = if amount % 8 == 0 {
            // A neighbour that has its stack alone.
            let builder = crore::Builder::new().stack_size(1 << 20);
            builder.spawn_local(body).expect("a slot is free")
        } else {
            // SAFETY: references into its frames stay in the coroutine.
            unsafe { crore::spawn_shared(body) }
        };
        seat.id_at(handle.coroutine().id());
        Self {
            seat,
            handle: Some(handle),
            levels: Vec::new(),
            pending: Vec::new(),
            opened: 0,
            blocked: false,
            end: None,
            any_end: false,
        }
    }

    fn command(&mut self, command: Command) {
        self.pending.push(command);
        self.seat.command(command);
    }

    /// Whether it has something to do, be it to end.
    fn is_busy(&self) -> bool {
        self.seat.is_busy() || (self.end.is_some() && Rc::strong_count(&self.seat) > 1)
    }

    fn unpark(&self) {
        self.seat.unpark();
    }

    fn cancel(&mut self) {
        // Only the coroutine knows whether it came to its end before.
        if self.seat.end.get().is_none() && self.end.is_none() {
            self.end = Some(End::Cancelled);
            // A future that is ready is not refused: it may go on from its
            // gate, and come to another end before it waits again.
            self.any_end = self.seat.blocked.get();
        }
        self.seat.cancel();
    }

    /// Obeys all commands, as the coroutine must have.
    fn advance(&mut self) {
        if self.end.is_some() {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending).into_iter();
        if self.blocked && !self.pass() {
            self.pending = pending.collect();
            return;
        }
        while let Some(command) = pending.next() {
            match command {
                Command::Deeper(size) if self.levels.len() < deep::MOST => self.levels.push(size),
                Command::Deeper(_) | Command::Yield(_) => {}
                Command::Back(by) => {
                    let left = self.levels.len().saturating_sub(usize::from(by));
                    self.levels.truncate(left);
                }
                Command::Wait => {
                    if !self.pass() {
                        self.pending = pending.collect();
                        return;
                    }
                }
                Command::Panic => self.end = Some(End::Panicked),
                Command::Return => self.end = Some(End::Returned),
            }
            if self.end.is_some() {
                self.levels.clear();
                return;
            }
        }
    }

    /// Passes the gate, or waits there.
    fn pass(&mut self) -> bool {
        self.blocked = self.opened == 0;
        self.opened = self.opened.saturating_sub(1);
        !self.blocked
    }

    fn compare(&mut self) {
        let (seat, id) = (&self.seat, self.seat.id);
        let Some(end) = self.end else {
            assert_eq!(seat.end.get(), None, "{id} ended");
            assert_eq!(seat.levels.get(), self.levels.len() + 1, "{id}: depth");
            assert_eq!(seat.blocked.get(), self.blocked, "{id}: at its gate");
            return;
        };
        assert_eq!(seat.levels.get(), 0, "{id}: a frame was not unwound");
        assert_eq!(Rc::strong_count(seat), 1, "{id}: its closure lives on");
        let Some(handle) = self.handle.take() else {
            return;
        };
        assert!(
            handle.is_finished(),
            "{id}: {end:?}, but not for its handle"
        );
        let seen = match handle.join() {
            Ok(value) => {
                assert_eq!(value, deep::result(id), "{id}: result");
                End::Returned
            }
            Err(error) if error.is_cancelled() => End::Cancelled,
            Err(error) => {
                let payload = error.into_panic().downcast::<u64>();
                assert_eq!(payload.map(|id| *id).ok(), Some(id), "{id}: payload");
                End::Panicked
            }
        };
        assert!(seen == end || self.any_end, "{id}: {seen:?}, not {end:?}");
    }
}

thread_local! {
    /// Looks at frames so far: a test that looks at nothing should fail.
    pub(crate) static LOOKS: Cell<u64> = const { Cell::new(0) };
}
