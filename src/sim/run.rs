//! A run: the thread that it is, and the coroutine that watches over it.

use std::any::Any;
use std::env;
use std::fmt;
use std::mem;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::caught::{say_if_unwatched, watch};
use super::chance::Chance;
use super::check::{begin_run, is_child, report_escapes, tell_parent};
use super::escapes::Escapes;
use super::faults::{FaultKind, Planned};
use super::machines::{Machines, NodeId, Program};
use super::poller::SimulatedBackend;
use super::trace::{HistoryProbe, TraceLines};
use super::world::{InWorld, Recipe, Simulated};
use super::{Report, Sim};
use crate::runtime::Handle;
use crate::runtime::Runtime;
use crate::runtime::join_handle::current;
use crate::sched::CurrentTask;
use crate::time::wait::park_timeout;

/// Set: simulations keep a trace, and one that fails prints it.
const TRACE: &str = "CRORE_SIM_TRACE";

/// Coroutines that may be at one time. What was reserved for a simulation in which
/// coroutines were left is never given back (I6): so it is not much.
const MOST: u32 = 1 << 14;

/// How far clocks jump at most, in nanoseconds.
const JUMP: u64 = 10_000_000_000;

/// How a run has ended.
enum SimEnd {
    Over,
    Panicked(Box<dyn Any + Send>),
    /// It was not over at its limit: in words, who waited for what.
    Late(String),
}

impl Sim {
    /// Runs it, on a thread of its own.
    pub(super) fn run_on_a_thread(self) -> Report {
        assert!(
            !CurrentTask::present(),
            "a simulation is run by a plain thread, not by a coroutine"
        );
        let (seed, denied) = (self.seed, self.escapes == Escapes::Denied);
        let probe = self.probe.clone();
        let records = probe
            .as_ref()
            .map(|probe| mem::take(&mut *probe.lock().unwrap()));
        let _run = begin_run();
        let plan = self.plan();
        let faults = plan.to_string();
        let thread = thread::Builder::new().name(format!("sim {seed}"));
        let thread = thread.spawn(move || self.run_here(plan, records.unwrap_or_default()));
        let (report, end, seen) = match thread.expect("a thread for the simulation").join() {
            Ok(result) => result,
            Err(payload) => resume_unwind(payload),
        };
        if let Some(place) = probe {
            *place.lock().unwrap() = seen;
        }
        if !matches!(end, SimEnd::Over) && !is_child() {
            let trace = report.trace.join("\n");
            eprintln!("crore: the simulation of seed {seed} fails; its faults:\n{faults}{trace}");
        }
        report_escapes(seed, &report.escapes);
        match end {
            SimEnd::Over if denied && !report.escapes.is_empty() => {
                let first = &report.escapes[0];
                let why = match is_child() {
                    true => first.in_short(),
                    false => first.to_string(),
                };
                panic!("seed {seed}: {why}");
            }
            SimEnd::Over => report,
            SimEnd::Panicked(payload) => resume_unwind(payload),
            SimEnd::Late(who) => panic!(
                "the simulation of seed {seed} is not over after {:?} of its time: {who}",
                report.elapsed
            ),
        }
    }

    /// Has what passes the hooks caught, where that can be.
    fn watch(&self) -> Option<Box<dyn Any>> {
        if self.escapes == Escapes::Ignored {
            return None;
        }
        if !is_child() {
            say_if_unwatched();
        }
        watch().ok()
    }

    /// What is to break.
    fn plan(&self) -> FaultPlan {
        let mut chance = Chance::new(self.seed).split();
        let nodes: Vec<NodeId> = (0..self.programs.len())
            .filter(|&at| matches!(self.programs[at], Program::Node(_)))
            .collect();
        let mut faults = self.faults.plan(nodes.len(), &mut chance);
        let planned = faults.len();
        if let Some(kept) = &self.kept {
            let kept = kept.iter().filter_map(|&at| faults.get(at).copied());
            faults = kept.collect();
        }
        FaultPlan {
            names: nodes.iter().map(|&node| self.names[node].clone()).collect(),
            nodes,
            faults,
            planned,
            chance,
        }
    }

    fn run_here(self, plan: FaultPlan, probe: HistoryProbe) -> (Report, SimEnd, HistoryProbe) {
        tell_parent(plan.planned);
        let watched = self.watch();
        let keeps_lines = self.lines || env::var_os(TRACE).is_some();
        let world = Simulated::new(Recipe {
            seed: self.seed,
            names: self.names,
            machines: Machines::new(self.programs),
            schedule: self.schedule,
            preempts: self.preempts,
            lines: keeps_lines.then(TraceLines::default),
            probe,
            disks: self.disks,
            watched: watched.is_some(),
        });
        world.link_all(self.link);
        let entered = InWorld::new(&world);
        let runtime = Runtime::builder()
            .backend(Arc::new(SimulatedBackend))
            .max_coroutines(MOST)
            .max_stacks(MOST as usize)
            .threads_as_coroutines(self.threads)
            .own_thread_locals(self.threads)
            .watchdog(None);
        let limit = self.limit;
        let watch = || watch_over(entered.world(), plan, limit);
        let run = runtime.build().and_then(|runtime| runtime.run(watch));
        let end = run.expect("a runtime for the simulation");
        drop(entered);
        drop(watched);
        world.trace_escapes();
        let mut trace = world.trace.borrow_mut();
        let report = Report {
            hash: trace.hash(),
            events: trace.events(),
            elapsed: Duration::from_nanos(world.now()),
            trace: trace.take_lines(),
            escapes: world.caught_escapes(),
        };
        let probe = mem::take(&mut trace.probe);
        drop(trace);
        (report, end, probe)
    }
}

/// What is to break, on which of these machines.
struct FaultPlan {
    nodes: Vec<NodeId>,
    /// Theirs.
    names: Vec<String>,
    faults: Vec<Planned>,
    /// How many there were before some were left out.
    planned: usize,
    chance: Chance,
}

/// Starts all machines and does to them what is planned, until they are over.
fn watch_over(world: &Simulated, mut plan: FaultPlan, limit: Duration) -> SimEnd {
    *world.machines.supervisor.borrow_mut() = Some(current());
    (0..world.names.len()).for_each(|node| world.start(node));
    let mut todo = plan.steps();
    let end = loop {
        if let Some(payload) = world.machines.panic.take() {
            break SimEnd::Panicked(payload);
        }
        if world.machines.are_over() {
            break SimEnd::Over;
        }
        for node in world.machines.crashing.take() {
            world.stop(node);
        }
        let now = Duration::from_nanos(world.now());
        while todo.last().is_some_and(|(at, _)| *at <= now) {
            let due = todo.pop();
            due.into_iter().for_each(|(_, step)| plan.take(world, step));
        }
        if now >= limit {
            let dump = Handle::current().map(|handle| handle.dump().to_string());
            break SimEnd::Late(dump.unwrap_or_default());
        }
        let next = todo.last().map_or(limit, |(at, _)| limit.min(*at));
        park_timeout(next.saturating_sub(now));
    };
    // From here on nothing of theirs runs; what they have written stays.
    world.keep_disks();
    (0..world.names.len()).for_each(|node| world.stop(node));
    end
}

/// The beginning of a fault, or its end.
#[derive(Clone, Copy)]
enum FaultStep {
    Begin(Planned),
    End(FaultKind),
}

impl FaultPlan {
    /// All that is to be done, the latest first.
    fn steps(&self) -> Vec<(Duration, FaultStep)> {
        let both = |fault: &Planned| {
            let end = fault.at + fault.lasts;
            [
                (fault.at, FaultStep::Begin(*fault)),
                (end, FaultStep::End(fault.kind)),
            ]
        };
        let mut steps: Vec<_> = self.faults.iter().flat_map(both).collect();
        steps.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        steps
    }

    fn take(&mut self, world: &Simulated, step: FaultStep) {
        let number = self.chance.draw();
        match step {
            FaultStep::Begin(fault) => {
                world.did(number, format_args!("{}", fault.words(&self.names)));
                self.begin(world, fault, number);
            }
            FaultStep::End(kind) => self.end(world, kind),
        }
    }

    fn begin(&mut self, world: &Simulated, fault: Planned, number: u64) {
        match fault.kind {
            FaultKind::Crash(node, _) => world.stop(self.nodes[node]),
            FaultKind::Isolate(node, _) => world.isolate(self.nodes[node], true),
            FaultKind::Cut(from, to) => world.cut(self.nodes[from], self.nodes[to], true),
            FaultKind::Reset(one, other) => world.reset(self.nodes[one], self.nodes[other]),
            FaultKind::Clock(node, _) => {
                let ahead = (number % (2 * JUMP)) as i64 - JUMP as i64;
                world.skews.borrow_mut()[self.nodes[node]].offset = ahead;
            }
            FaultKind::Calls(node, kind) => {
                // Its own, whatever other faults there are.
                let [at, lasts] = [fault.at, fault.lasts].map(|time| time.as_nanos() as u64);
                let seed = at.rotate_left(32) ^ lasts;
                world.calls.borrow_mut().begin(self.nodes[node], kind, seed);
            }
        }
    }

    fn end(&self, world: &Simulated, kind: FaultKind) {
        match kind {
            FaultKind::Crash(node, _) => world.start(self.nodes[node]),
            FaultKind::Isolate(node, _) => world.isolate(self.nodes[node], false),
            FaultKind::Cut(from, to) => world.cut(self.nodes[from], self.nodes[to], false),
            FaultKind::Calls(node, kind) => world.calls.borrow_mut().end(self.nodes[node], kind),
            FaultKind::Reset(..) | FaultKind::Clock(..) => {}
        }
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = self.faults.iter();
        all.try_for_each(|fault| writeln!(f, "  {}", fault.words(&self.names)))
    }
}
