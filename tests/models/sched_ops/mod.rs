//! Lists of scheduler operations against a model that predicts every result.
//! For `cargo test` and `cargo fuzz` alike.
//!
//! An input is one byte that shapes the runtime, then operations of three
//! bytes each: what (its high bit: go on at once), to whom, how much. Every
//! input is valid. Up to [`SEATS`] actors obey commands (`actor.rs`); the main
//! coroutine gives them, and the model (`model.rs`) says what each must have
//! answered, where it must wait, and how it must have ended.
//!
//! The rule that makes one prediction right: what touches something that
//! actors share is only begun when all are at rest. What is an actor's own
//! (yields, naps, parks, children) may run with the others' at the same time.

mod actor;
mod model;

use std::rc::Rc;
use std::time::{Duration, Instant};

use crore::{Handle, Runtime};

use actor::{Command, Time, World};
use model::Model;

/// Actors alive at a time.
const SEATS: usize = 8;
/// What nobody may need to come to rest.
const PATIENCE: Duration = Duration::from_secs(20);

/// How an actor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Returned,
    Panicked,
    Cancelled,
}

/// Runs the operations of one input; how many answers were compared.
pub(crate) fn run(input: &[u8]) -> usize {
    let Some((&shape, operations)) = input.split_first() else {
        return 0;
    };
    let runtime = Runtime::builder()
        .workers(if shape % 8 == 0 { 2 } else { 1 })
        .max_coroutines(256)
        .build()
        .expect("a runtime");
    let (seats, answers) = runtime
        .run(|| {
            let mut play = Play::new();
            for operation in operations.chunks_exact(3) {
                play.obey(operation);
            }
            play.settle(true);
            // Those that still live are cancelled by the end of `run`.
            let seats: Vec<_> = play.model.seats().cloned().collect();
            (seats, play.model.answers())
        })
        .expect("the runtime runs");
    for seat in seats {
        assert_eq!(Rc::strong_count(&seat), 1, "{}: it lives on", seat.id);
    }
    let metrics = runtime.metrics();
    assert_eq!(metrics.spawned, metrics.ended);
    assert_eq!(metrics.abandoned, 0);
    answers
}

/// The main coroutine's view.
struct Play {
    world: Rc<World>,
    model: Model,
    serial: u32,
}

impl Play {
    fn new() -> Self {
        Self {
            world: Rc::new(World::new()),
            model: Model::new(),
            serial: 0,
        }
    }

    fn obey(&mut self, operation: &[u8]) {
        let (what, amount) = (operation[0], operation[2]);
        let who = usize::from(operation[1]) % SEATS;
        let whom = usize::from(operation[1] / 16) % SEATS;
        self.serial += 1;
        let serial = self.serial;
        let time = match amount % 8 {
            0..=3 => Time::Zero,
            4..=6 => Time::Nap,
            _ => Time::Long,
        };
        match what & 0x1f {
            0..=2 => self.model.spawn(who, serial, &self.world),
            3 => self.model.command(who, Command::Yield(amount % 4)),
            4 => self.model.command(who, Command::Park),
            5..=6 => self.model.command(who, Command::ParkFor(time)),
            7 => self.model.command(who, Command::Timeout(time)),
            8 => self.model.command(who, Command::Sleep(time)),
            9..=10 => self.model.command(who, Command::Fork(amount)),
            11 => self.model.command(who, Command::Return),
            12 => self.model.command(who, Command::Panic),
            13..=14 => {
                self.settle(false);
                self.model.unpark(who);
            }
            15..=16 => self.alone(who, Command::Send(serial)),
            17..=18 => self.alone(who, Command::Recv),
            19 => self.alone(who, Command::TrySend(serial)),
            20 => self.alone(who, Command::TryRecv),
            21 => self.alone(who, Command::RecvFor(time)),
            22..=23 => self.alone(who, Command::Acquire(1 + usize::from(amount) % 3)),
            24 => self.alone(who, Command::Release),
            25 => {
                self.settle(false);
                self.model.join(who, whom);
            }
            26..=27 => {
                if !self.model.can_cancel_now(who) {
                    self.settle(false);
                }
                self.model.cancel(who);
            }
            28 => self.model.drop_handle(who),
            29 => self.settle(true),
            _ => {
                crore::yield_now();
                self.model.had_turns();
            }
        }
        if what & 0x80 == 0 {
            self.settle(false);
        }
    }

    /// For what touches something shared.
    fn alone(&mut self, who: usize, command: Command) {
        self.settle(false);
        if self.model.is_idle(who) {
            self.model.command(who, command);
        }
        self.settle(false);
    }

    /// Lets all come to rest where the model says that they must.
    fn settle(&mut self, count: bool) {
        self.model.advance();
        let start = Instant::now();
        let mut turns = 0_u32;
        while let Some(why) = self.model.differs(&self.world) {
            assert!(start.elapsed() < PATIENCE, "{why}");
            turns += 1;
            if turns % 16 == 0 {
                crore::sleep(Duration::from_micros(50));
            } else {
                crore::yield_now();
            }
        }
        // Nobody goes on further than that.
        for _ in 0..2 {
            crore::yield_now();
        }
        if let Some(why) = self.model.differs(&self.world) {
            panic!("after coming to rest: {why}");
        }
        if count {
            let handle = Handle::current().expect("we run in it");
            // Children of those who were cancelled end in their own time.
            while handle.dump().len() != 1 + self.model.alive() {
                assert!(start.elapsed() < PATIENCE, "alive: {:?}", handle.dump());
                crore::yield_now();
            }
        }
        self.model.bury();
    }
}
