//! A coroutine that obeys commands and writes down what came of them.

use std::cell::RefCell;
use std::time::Duration;

use crore::JoinHandle;
use crore::sync::Semaphore;
use crore::sync::channel::{self, Receiver, RecvTimeoutError, Sender};

use super::End;

/// Values that the shared channel holds.
pub(crate) const ROOM: usize = 2;
pub(crate) const PERMITS: usize = 3;

/// How long something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    Zero,
    /// Over before all have come to rest.
    Nap,
    /// Never over.
    Long,
}

impl Time {
    fn duration(self) -> Duration {
        match self {
            Self::Zero => Duration::ZERO,
            Self::Nap => Duration::from_micros(30),
            Self::Long => Duration::from_secs(36_000),
        }
    }
}

/// What an actor is told.
pub(crate) enum Command {
    Yield(u8),
    Park,
    ParkFor(Time),
    /// A `timeout` around a park.
    Timeout(Time),
    Sleep(Time),
    /// Spawn a child of this kind and join it.
    Fork(u8),
    Join(JoinHandle<u32>),
    Send(u32),
    TrySend(u32),
    Recv,
    TryRecv,
    RecvFor(Time),
    Acquire(usize),
    /// The permits acquired first.
    Release,
    Panic,
    Return,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Value(u32),
    /// The channel was full, or empty, or there was nothing to release.
    Refused,
    /// Time was over first.
    Late,
    Ended(End),
}

/// What all actors share.
pub(crate) struct World {
    pub(crate) to: Sender<u32>,
    pub(crate) from: Receiver<u32>,
    pub(crate) permits: Semaphore,
}

impl World {
    pub(crate) fn new() -> Self {
        let (to, from) = channel::bounded(ROOM);
        Self {
            to,
            from,
            permits: Semaphore::new(PERMITS),
        }
    }
}

/// Where an actor gets its commands and leaves its answers.
pub(crate) struct Seat {
    pub(crate) id: u32,
    pub(crate) tell: Sender<Command>,
    commands: Receiver<Command>,
    pub(crate) answers: RefCell<Vec<Answer>>,
}

impl Seat {
    pub(crate) fn new(id: u32) -> Self {
        let (tell, commands) = channel::unbounded();
        Self {
            id,
            tell,
            commands,
            answers: RefCell::default(),
        }
    }
}

/// How a coroutine ended, from what its joiner got.
pub(crate) fn end_of(result: Result<u32, crore::JoinError>, id: u32) -> End {
    match result {
        Ok(value) => {
            assert_eq!(value, id, "result");
            End::Returned
        }
        Err(error) if error.is_cancelled() => End::Cancelled,
        Err(error) => {
            let payload = error.into_panic().downcast::<u32>();
            assert_eq!(payload.map(|id| *id).ok(), Some(id), "payload");
            End::Panicked
        }
    }
}

/// Obeys until told to end.
pub(crate) fn act(seat: &Seat, world: &World) -> u32 {
    let mut held = Vec::new();
    loop {
        let command = seat.commands.recv().expect("the seat has a sender, too");
        let answer = match command {
            Command::Yield(times) => {
                (0..times).for_each(|_| crore::yield_now());
                Answer::Done
            }
            Command::Park => {
                crore::park();
                Answer::Done
            }
            Command::ParkFor(time) => {
                crore::park_timeout(time.duration());
                Answer::Done
            }
            Command::Timeout(time) => match crore::timeout(time.duration(), crore::park) {
                Ok(()) => Answer::Done,
                Err(_) => Answer::Late,
            },
            Command::Sleep(time) => {
                crore::sleep(time.duration());
                Answer::Done
            }
            Command::Fork(kind) => Answer::Ended(fork(kind)),
            Command::Join(handle) => Answer::Ended(match handle.join() {
                Ok(_) => End::Returned,
                Err(error) if error.is_panic() => End::Panicked,
                Err(_) => End::Cancelled,
            }),
            Command::Send(value) => {
                world.to.send(value).expect("the world has a receiver");
                Answer::Done
            }
            Command::TrySend(value) => match world.to.try_send(value) {
                Ok(()) => Answer::Done,
                Err(_) => Answer::Refused,
            },
            Command::Recv => Answer::Value(world.from.recv().expect("the world has a sender")),
            Command::TryRecv => match world.from.try_recv() {
                Ok(value) => Answer::Value(value),
                Err(_) => Answer::Refused,
            },
            Command::RecvFor(time) => match world.from.recv_timeout(time.duration()) {
                Ok(value) => Answer::Value(value),
                Err(RecvTimeoutError::Timeout) => Answer::Late,
                Err(RecvTimeoutError::Disconnected) => unreachable!("the world has a sender"),
            },
            Command::Acquire(count) => {
                held.push(world.permits.acquire(count).expect("never closed"));
                Answer::Done
            }
            Command::Release if held.is_empty() => Answer::Refused,
            Command::Release => {
                drop(held.remove(0));
                Answer::Done
            }
            Command::Panic => std::panic::resume_unwind(Box::new(seat.id)),
            Command::Return => return seat.id,
        };
        seat.answers.borrow_mut().push(answer);
    }
}

/// How the child of a kind ends.
pub(crate) fn fate(kind: u8) -> End {
    match kind % 8 {
        5 => End::Panicked,
        6 => End::Cancelled,
        _ => End::Returned,
    }
}

/// Spawns a child, waits for it, and says how it ended.
fn fork(kind: u8) -> End {
    let id = u32::from(kind);
    let body = move || {
        (0..kind / 64).for_each(|_| crore::yield_now());
        id
    };
    let child = match kind % 8 {
        0 => crore::spawn(body),
        1 => crore::spawn_local(body),
        // SAFETY: the closure hands out no reference to its frames.
        2 => unsafe { crore::spawn_shared(body) },
        3 => crore::spawn_future(async move { id }),
        4 => {
            let sum: u32 = crore::scope(|scope| {
                let children = [1, 2].map(|part| scope.spawn(move || part));
                children.map(|child| child.join().unwrap()).iter().sum()
            });
            assert_eq!(sum, 3);
            return End::Returned;
        }
        5 => crore::spawn(move || {
            body();
            std::panic::resume_unwind(Box::new(id))
        }),
        6 => {
            let child = crore::spawn_local(|| unreachable!("cancelled before its first turn"));
            child.cancel();
            child
        }
        _ => {
            let (to, from) = channel::rendezvous();
            // No value comes if we are cancelled in the middle of sending it.
            let child = crore::spawn(move || from.recv().unwrap_or(0));
            to.send(id).expect("the child receives");
            child
        }
    };
    end_of(child.join(), id)
}
