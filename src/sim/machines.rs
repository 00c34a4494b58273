//! The machines of a simulation, and what can be done to them.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use crate::task::Coroutine;

/// A machine, by number.
pub(super) type NodeId = usize;

/// What a machine runs.
#[derive(Clone)]
pub(super) enum Program {
    /// Begins again after a crash.
    Node(Arc<dyn Fn() + Send + Sync>),
    /// Runs once; the simulation is over when all of these are.
    Client(Arc<dyn Fn() + Send + Sync>),
}

/// What the supervisor is told.
#[derive(Default)]
pub(super) struct Machines {
    pub(super) programs: Vec<Program>,
    states: RefCell<Vec<State>>,
    /// The first panic that a machine's program ended with.
    pub(super) panic: RefCell<Option<Box<dyn Any + Send>>>,
    /// Who is to look when something has changed.
    pub(super) supervisor: RefCell<Option<Coroutine>>,
    /// Machines that have asked for their own crash.
    pub(super) crashing: RefCell<Vec<NodeId>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Down,
    Up,
    /// Its program has returned.
    Over,
}

impl Machines {
    pub(super) fn new(programs: Vec<Program>) -> Self {
        let states = RefCell::new(vec![State::Down; programs.len()]);
        Self {
            programs,
            states,
            ..Self::default()
        }
    }

    /// Whether what the simulation waits for is over: its clients, or all if it has none.
    pub(super) fn are_over(&self) -> bool {
        let is_client = |program: &Program| matches!(program, Program::Client(_));
        let any_client = self.programs.iter().any(is_client);
        let states = self.states.borrow();
        let mut all = self.programs.iter().zip(states.iter());
        all.all(|(program, state)| *state == State::Over || any_client && !is_client(program))
    }

    pub(super) fn tell_supervisor(&self) {
        if let Some(supervisor) = &*self.supervisor.borrow() {
            supervisor.unpark();
        }
    }

    pub(super) fn set(&self, node: NodeId, state: State) {
        self.states.borrow_mut()[node] = state;
    }

    pub(super) fn get(&self, node: NodeId) -> State {
        self.states.borrow()[node]
    }
}
