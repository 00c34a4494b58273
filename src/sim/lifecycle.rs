//! Machines start and crash.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::machines::{NodeId, Program, State};
use super::world::{Simulated, current};
use crate::runtime::spawn_builder::Builder;

/// Bytes of the stack of what a machine begins with: as std's threads have.
const MAIN_STACK: usize = 2 << 20;

impl Simulated {
    /// Starts a machine, if it is down.
    pub(super) fn start(&self, node: NodeId) {
        let machines = &self.machines;
        if machines.get(node) != State::Down {
            return;
        }
        machines.set(node, State::Up);
        let (Program::Node(program) | Program::Client(program)) = machines.programs[node].clone();
        let begins = Begins;
        let main = move || {
            std::mem::forget(begins);
            let result = catch_unwind(AssertUnwindSafe(|| program()));
            let machines = &current().expect("it runs in a simulation").machines;
            machines.set(node, State::Over);
            if let Err(payload) = result {
                machines.panic.borrow_mut().get_or_insert(payload);
            }
            machines.tell_supervisor();
        };
        let builder = Builder::new().name(self.name(node).to_owned());
        let builder = builder.stack_size(MAIN_STACK);
        let spawned = self.for_node(node, || builder.spawn(main));
        spawned.expect("a simulation has room for its machines");
    }

    /// Ends a machine, unless it is down, all at once.
    pub(super) fn stop(&self, node: NodeId) {
        if self.machines.get(node) != State::Down {
            self.crash(node);
            self.machines.set(node, State::Down);
        }
    }
}

/// Dropped where a machine's coroutine could not begin.
struct Begins;

impl Drop for Begins {
    fn drop(&mut self) {
        if let Some(world) = current() {
            let why = "it could not begin: no stack, or no descriptors";
            let payload: Box<dyn Any + Send> = Box::new(why);
            world.machines.panic.borrow_mut().get_or_insert(payload);
            world.machines.tell_supervisor();
        }
    }
}
