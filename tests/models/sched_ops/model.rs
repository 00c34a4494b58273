//! What must be true of all actors when they are at rest.

use std::collections::VecDeque;
use std::rc::Rc;

use crore::JoinHandle;

use super::actor::{self, Answer, Command, PERMITS, ROOM, Seat, Time, World};
use super::{End, SEATS};

/// A command as the model remembers it.
enum Step {
    Own(Own),
    Join(Rc<Fate>),
    Send(u32),
    TrySend(u32),
    Recv,
    TryRecv,
    RecvFor,
    Acquire(usize),
    Release,
    Panic,
    Return,
}

/// What concerns nobody else.
enum Own {
    Done,
    Park(Time),
    Timeout(Time),
    Sleep(Time),
    Fork(u8),
}

/// How an actor ended, for those who join it.
#[derive(Default)]
struct Fate {
    end: std::cell::Cell<Option<End>>,
    /// It may have come to its own end before the cancellation.
    any: std::cell::Cell<bool>,
}

/// Where an actor waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Token,
    Sending,
    Receiving,
    Acquiring,
    Joining,
    ForEver,
}

struct Actor {
    seat: Rc<Seat>,
    handle: Option<JoinHandle<u32>>,
    steps: VecDeque<Step>,
    answers: Vec<Answer>,
    wait: Option<Wait>,
    token: bool,
    held: VecDeque<usize>,
    fate: Rc<Fate>,
    /// It has had a turn for sure.
    started: bool,
    /// Cancelled while it was busy: nobody knows how far it came.
    cut: bool,
}

/// See the [module](self).
pub(crate) struct Model {
    actors: [Option<Actor>; SEATS],
    buried: usize,
    /// Values in the channel, then those of the senders that wait.
    values: VecDeque<u32>,
    sending: VecDeque<(usize, u32)>,
    receiving: VecDeque<usize>,
    permits: usize,
    acquiring: VecDeque<(usize, usize)>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            actors: [const { None }; SEATS],
            buried: 0,
            values: VecDeque::new(),
            sending: VecDeque::new(),
            receiving: VecDeque::new(),
            permits: PERMITS,
            acquiring: VecDeque::new(),
        }
    }

    pub(crate) fn seats(&self) -> impl Iterator<Item = &Rc<Seat>> {
        self.actors.iter().flatten().map(|actor| &actor.seat)
    }

    /// Answers that were compared.
    pub(crate) fn answers(&self) -> usize {
        let alive = self.actors.iter().flatten();
        self.buried + alive.map(|actor| actor.answers.len()).sum::<usize>()
    }

    pub(crate) fn alive(&self) -> usize {
        let alive = |actor: &&Actor| actor.fate.end.get().is_none();
        self.actors.iter().flatten().filter(alive).count()
    }

    pub(crate) fn spawn(&mut self, who: usize, id: u32, world: &Rc<World>) {
        if self.actors[who].is_some() {
            return;
        }
        let seat = Rc::new(Seat::new(id));
        let (theirs, world) = (Rc::clone(&seat), Rc::clone(world));
        let handle = crore::spawn_local(move || actor::act(&theirs, &world));
        self.actors[who] = Some(Actor {
            seat,
            handle: Some(handle),
            steps: VecDeque::new(),
            answers: Vec::new(),
            wait: None,
            token: false,
            held: VecDeque::new(),
            fate: Rc::default(),
            started: false,
            cut: false,
        });
    }

    /// Gives a command, to be obeyed in its turn.
    pub(crate) fn command(&mut self, who: usize, command: Command) {
        let Some(actor) = self.living(who) else {
            return;
        };
        // With a token at hand it is a race which comes first.
        if matches!(command, Command::Timeout(Time::Nap)) && actor.token {
            return;
        }
        let step = match &command {
            Command::Yield(_) => Step::Own(Own::Done),
            Command::Park => Step::Own(Own::Park(Time::Long)),
            Command::ParkFor(time) => Step::Own(Own::Park(*time)),
            Command::Timeout(time) => Step::Own(Own::Timeout(*time)),
            Command::Sleep(time) => Step::Own(Own::Sleep(*time)),
            Command::Fork(kind) => Step::Own(Own::Fork(*kind)),
            Command::Join(_) => unreachable!("see `join`"),
            Command::Send(value) => Step::Send(*value),
            Command::TrySend(value) => Step::TrySend(*value),
            Command::Recv => Step::Recv,
            Command::TryRecv => Step::TryRecv,
            // Nothing would ever take it out of the queue.
            Command::RecvFor(Time::Long) => return,
            Command::RecvFor(_) => Step::RecvFor,
            Command::Acquire(count) => Step::Acquire(*count),
            Command::Release => Step::Release,
            Command::Panic => Step::Panic,
            Command::Return => Step::Return,
        };
        actor.steps.push_back(step);
        actor.seat.tell.send(command).expect("the seat lives");
    }

    /// `who` joins `whom`, if both are at rest and the handle is there.
    pub(crate) fn join(&mut self, who: usize, whom: usize) {
        if who == whom || !self.is_idle(who) {
            return;
        }
        let Some(other) = &mut self.actors[whom] else {
            return;
        };
        let Some(handle) = other.handle.take() else {
            return;
        };
        let fate = Rc::clone(&other.fate);
        let actor = self.living(who).expect("idle");
        actor.steps.push_back(Step::Join(fate));
        let told = actor.seat.tell.send(Command::Join(handle));
        told.expect("the seat lives");
    }

    pub(crate) fn unpark(&mut self, who: usize) {
        if let Some(actor) = self.living(who)
            && let Some(handle) = &actor.handle
        {
            handle.coroutine().unpark();
            actor.token = true;
        }
    }

    /// Whether all of what it still does is its own business, so that it may
    /// be cancelled in the middle of it.
    pub(crate) fn can_cancel_now(&self, who: usize) -> bool {
        let Some(actor) = &self.actors[who] else {
            return true;
        };
        // Its permits and its place in a queue would come free at any time.
        actor.held.is_empty()
            && actor.wait.is_none()
            && (actor.steps.iter()).all(|step| !matches!(step, Step::Join(_)))
    }

    /// Cancels it, wherever it is.
    pub(crate) fn cancel(&mut self, who: usize) {
        let Some(actor) = self.living(who) else {
            return;
        };
        let Some(handle) = &actor.handle else { return };
        handle.cancel();
        if !actor.steps.is_empty() && actor.started {
            actor.cut = true;
            let own_end = |step: &Step| matches!(step, Step::Panic | Step::Return);
            actor.fate.any.set(actor.steps.iter().any(own_end));
        }
        actor.steps.clear();
        self.end(who, End::Cancelled);
    }

    pub(crate) fn drop_handle(&mut self, who: usize) {
        if let Some(actor) = &mut self.actors[who] {
            actor.handle = None;
        }
    }

    pub(crate) fn is_idle(&self, who: usize) -> bool {
        let idle = |actor: &Actor| {
            actor.fate.end.get().is_none() && actor.wait.is_none() && actor.steps.is_empty()
        };
        self.actors[who].as_ref().is_some_and(idle)
    }

    fn living(&mut self, who: usize) -> Option<&mut Actor> {
        let actor = self.actors[who].as_mut();
        actor.filter(|actor| actor.fate.end.get().is_none())
    }

    /// Obeys all commands, as the actors must have.
    pub(crate) fn advance(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for who in 0..SEATS {
                while self.step(who) {
                    moved = true;
                }
            }
        }
        self.had_turns();
    }

    /// Nobody is new any more.
    pub(crate) fn had_turns(&mut self) {
        for actor in self.actors.iter_mut().flatten() {
            actor.started = true;
        }
    }

    /// One step of an actor; `false` if it can make none.
    fn step(&mut self, who: usize) -> bool {
        let Some(actor) = self.living(who) else {
            return false;
        };
        let wait = match actor.wait {
            Some(Wait::Token) if actor.token => None,
            Some(Wait::Joining) => match actor.steps.front() {
                Some(Step::Join(fate)) if fate.end.get().is_some() => None,
                _ => return false,
            },
            Some(_) => return false,
            None => None,
        };
        actor.wait = wait;
        let Some(step) = actor.steps.pop_front() else {
            return false;
        };
        match step {
            Step::Own(own) => self.own(who, own),
            Step::Join(fate) => match fate.end.get() {
                Some(end) => self.answer(who, Answer::Ended(end)),
                None => {
                    let actor = self.living(who).expect("it makes a step");
                    actor.steps.push_front(Step::Join(fate));
                    actor.wait = Some(Wait::Joining);
                }
            },
            Step::Panic => self.end(who, End::Panicked),
            Step::Return => self.end(who, End::Returned),
            shared => self.shared(who, &shared),
        }
        true
    }

    fn own(&mut self, who: usize, own: Own) {
        let actor = self.living(who).expect("it makes a step");
        let answer = match own {
            Own::Done | Own::Sleep(Time::Zero | Time::Nap) => Answer::Done,
            Own::Sleep(Time::Long) => {
                actor.wait = Some(Wait::ForEver);
                return;
            }
            Own::Fork(kind) => Answer::Ended(actor::fate(kind)),
            // Late before it looks.
            Own::Timeout(Time::Zero) => Answer::Late,
            Own::Park(_) | Own::Timeout(_) if actor.token => {
                actor.token = false;
                Answer::Done
            }
            Own::Park(Time::Long) | Own::Timeout(Time::Long) => {
                actor.wait = Some(Wait::Token);
                actor.steps.push_front(Step::Own(own));
                return;
            }
            Own::Park(_) => Answer::Done,
            Own::Timeout(_) => Answer::Late,
        };
        self.answer(who, answer);
    }

    fn shared(&mut self, who: usize, step: &Step) {
        let answer = match *step {
            Step::Send(value) | Step::TrySend(value) => {
                if let Some(receiver) = self.receiving.pop_front() {
                    self.answer(receiver, Answer::Value(value));
                    Answer::Done
                } else if self.values.len() < ROOM {
                    self.values.push_back(value);
                    Answer::Done
                } else if matches!(step, Step::TrySend(_)) {
                    Answer::Refused
                } else {
                    self.sending.push_back((who, value));
                    return self.wait(who, Wait::Sending);
                }
            }
            Step::Recv | Step::TryRecv | Step::RecvFor => match self.values.pop_front() {
                Some(value) => {
                    if let Some((sender, next)) = self.sending.pop_front() {
                        self.values.push_back(next);
                        self.answer(sender, Answer::Done);
                    }
                    Answer::Value(value)
                }
                None if matches!(step, Step::TryRecv) => Answer::Refused,
                None if matches!(step, Step::RecvFor) => Answer::Late,
                None => {
                    self.receiving.push_back(who);
                    return self.wait(who, Wait::Receiving);
                }
            },
            Step::Acquire(count) => {
                self.acquiring.push_back((who, count));
                self.wait(who, Wait::Acquiring);
                return self.grant();
            }
            Step::Release => {
                let actor = self.living(who).expect("it makes a step");
                match actor.held.pop_front() {
                    Some(count) => {
                        self.permits += count;
                        self.grant();
                        Answer::Done
                    }
                    None => Answer::Refused,
                }
            }
            _ => unreachable!("not shared"),
        };
        self.answer(who, answer);
    }

    /// Gives permits to those who have waited longest.
    fn grant(&mut self) {
        while let Some(&(who, count)) = self.acquiring.front()
            && count <= self.permits
        {
            self.acquiring.pop_front();
            self.permits -= count;
            self.living(who).expect("it waits").held.push_back(count);
            self.answer(who, Answer::Done);
        }
    }

    fn wait(&mut self, who: usize, wait: Wait) {
        self.living(who).expect("it makes a step").wait = Some(wait);
    }

    fn answer(&mut self, who: usize, answer: Answer) {
        let actor = self.living(who).expect("it makes a step");
        actor.wait = None;
        actor.answers.push(answer);
    }

    /// It leaves every queue and gives back what it holds.
    fn end(&mut self, who: usize, end: End) {
        let actor = self.living(who).expect("it ends once");
        actor.fate.end.set(Some(end));
        actor.wait = None;
        self.permits += actor.held.drain(..).sum::<usize>();
        self.sending.retain(|&(sender, _)| sender != who);
        self.receiving.retain(|&receiver| receiver != who);
        self.acquiring.retain(|&(waiter, _)| waiter != who);
        self.grant();
    }

    /// What is not as it must be.
    pub(crate) fn differs(&self, world: &World) -> Option<String> {
        let channel = (world.to.len(), world.permits.available_permits());
        let model = (self.values.len(), self.permits);
        if channel != model {
            return Some(format!("values, permits: {channel:?}, not {model:?}"));
        }
        self.actors.iter().flatten().find_map(Actor::differs)
    }

    /// Compares the ends of those who have ended, and forgets them.
    pub(crate) fn bury(&mut self) {
        for place in &mut self.actors {
            let Some(actor) = place else { continue };
            let Some(end) = actor.fate.end.get() else {
                continue;
            };
            let (id, any) = (actor.seat.id, actor.fate.any.get());
            if let Some(handle) = actor.handle.take() {
                let seen = actor::end_of(handle.join(), id);
                assert!(seen == end || any, "{id}: {seen:?}, not {end:?}");
            }
            self.buried += actor.answers.len();
            *place = None;
        }
    }
}

impl Actor {
    fn differs(&self) -> Option<String> {
        let (id, answers) = (self.seat.id, self.seat.answers.borrow());
        let right = if self.cut {
            answers.len() >= self.answers.len() && answers.starts_with(&self.answers)
        } else {
            *answers == self.answers
        };
        if !right {
            return Some(format!(
                "{id}: answers {answers:?}, not {:?}; waits: {:?}",
                self.answers, self.wait
            ));
        }
        let ended = Rc::strong_count(&self.seat) == 1;
        let finished = self.handle.as_ref().is_none_or(JoinHandle::is_finished);
        let end = self.fate.end.get();
        match end {
            Some(_) if !ended || !finished => Some(format!("{id}: alive, not {end:?}")),
            None if ended => Some(format!("{id}: ended, but has to wait: {:?}", self.wait)),
            _ => None,
        }
    }
}
