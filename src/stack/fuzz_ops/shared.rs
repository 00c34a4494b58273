//! Shared stacks against a model that keeps a copy of each task's bytes.
//!
//! The model plays the carrier: it writes the bytes that a start, a park, or
//! an end would leave on the stack.

use crate::stack::frame_pool::{FramePool, FramePoolConfig};
use crate::stack::shared::{Resident, Saved, SharedStack};
use crate::util::fuzz::{Op, Random, ops};

const STACK: usize = 1024;
const STACKS: usize = 2;
const TASKS: usize = 12;
/// Small enough to be hit.
const MAX_SAVED: u64 = 4096;

/// A stack's memory, aligned like one.
type Memory = [u128; STACK / 16];

struct Stack {
    shared: SharedStack,
    memory: *mut Memory,
    idle_sp: usize,
    boundary: usize,
    /// What the carrier leaves on the stack in its two forms.
    idle: Vec<u8>,
    base_frames: Vec<u8>,
    resident: Resident,
}

struct Task {
    stack: usize,
    sp: usize,
    /// `[sp, boundary)` as the task left it.
    bytes: Vec<u8>,
    saved: Option<Saved>,
}

struct SharedModel {
    pool: FramePool,
    stacks: Vec<Stack>,
    tasks: Vec<Option<Task>>,
    random: Random,
    hits: u64,
    saves: u64,
}

/// Runs the operations of one input; its first byte shapes the stacks.
pub(crate) fn run(input: &[u8]) {
    let Some((&shape, input)) = input.split_first() else {
        return;
    };
    let mut random = Random::new(input.len() as u64);
    let config = FramePoolConfig {
        reserve_bytes: 1 << 20,
        max_saved_bytes: MAX_SAVED,
        chunk_bytes: 4096,
        ..FramePoolConfig::default()
    };
    let mut model = SharedModel {
        pool: FramePool::new(config).expect("address space"),
        stacks: (0..STACKS)
            .map(|_| Stack::new(usize::from(shape), &mut random))
            .collect(),
        tasks: (0..TASKS).map(|_| None).collect(),
        random,
        hits: 0,
        saves: 0,
    };
    for op in ops(input) {
        model.apply(&op);
        model.check();
    }
    for id in 0..TASKS {
        // The limit may forbid to save the owner, never to end it.
        model.end_owner(model.tasks[id].as_ref().map_or(0, |task| task.stack));
        if model.resume(id) {
            model.end(id);
        }
        model.check();
    }
    assert_eq!(
        model.pool.counters().frames,
        0,
        "every frame was given back"
    );
}

impl Stack {
    fn new(shape: usize, random: &mut Random) -> Self {
        let memory: *mut Memory = Box::into_raw(Box::new([0; STACK / 16]));
        let limit = memory.expose_provenance();
        let base = limit + STACK;
        // The idle point may lie above and below the boundary.
        let idle_sp = base - 16 - 8 * (shape % 16);
        // Base frames hold at least the return address that they begin with.
        let boundary = base - 8 * (1 + shape / 16);
        let (idle, base_frames) = (random.bytes(base - idle_sp), random.bytes(base - boundary));
        write(idle_sp, &idle);
        // SAFETY: the memory lives until `drop`, its provenance was exposed,
        // and nothing runs on it.
        let shared = unsafe { SharedStack::new(base, limit, idle_sp) };
        Self {
            shared,
            memory,
            idle_sp,
            boundary,
            idle,
            base_frames,
            resident: Resident::Idle,
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw`, and nobody uses it any more.
        drop(unsafe { Box::from_raw(self.memory) });
    }
}

impl SharedModel {
    fn apply(&mut self, op: &Op) {
        let id = usize::from(op.small) % TASKS;
        match op.what % 8 {
            0 | 1 => self.start(id, op.large),
            2 => {
                self.resume(id);
            }
            3 | 4 => {
                if self.resume(id) {
                    self.run_and_park(id, op.large);
                }
            }
            5 => {
                if self.resume(id) {
                    self.end(id);
                }
            }
            6 => self.forget(id),
            _ => {
                self.clear(op.large % STACKS);
            }
        }
    }

    /// A new task runs until it parks.
    fn start(&mut self, id: usize, depth: usize) {
        let at = depth % STACKS;
        if self.tasks[id].is_some() || !self.clear(at) {
            return;
        }
        let stack = &mut self.stacks[at];
        // SAFETY: nothing runs on the stack; the model is the carrier.
        unsafe { stack.shared.make_idle() };
        assert_eq!(
            read(stack.idle_sp, stack.idle.len()),
            stack.idle,
            "the carrier's idle frames"
        );
        stack.shared.start(id as u32);
        stack.resident = Resident::Owner(id as u32);
        write(stack.boundary, &stack.base_frames);
        self.tasks[id] = Some(Task {
            stack: at,
            sp: 0,
            bytes: Vec::new(),
            saved: None,
        });
        self.run_and_park(id, depth / STACKS);
    }

    /// The running task writes new frames and parks.
    fn run_and_park(&mut self, id: usize, depth: usize) {
        let task = self.tasks[id].as_mut().expect("running");
        let stack = &mut self.stacks[task.stack];
        let room = stack.boundary - stack.memory.addr();
        task.sp = stack.boundary - 8 * (1 + depth % (room / 8));
        task.bytes = alike(&mut self.random, stack.boundary - task.sp);
        write(task.sp, &task.bytes);
        // SAFETY: the task is parked, and its base frames as always.
        unsafe { stack.shared.capture_base_frames(stack.boundary, 8) };
    }

    /// Switches to a task; its whole stack must be as it left it. `false` if
    /// there is no such task, or the owner can't be saved.
    fn resume(&mut self, id: usize) -> bool {
        let Some(at) = self.tasks[id].as_ref().map(|task| task.stack) else {
            return false;
        };
        let present = self.stacks[at].resident == Resident::Owner(id as u32);
        assert_eq!(self.stacks[at].shared.hit(id as u32), present);
        self.hits += u64::from(present);
        if !present && !self.clear(at) {
            return false;
        }
        let (task, stack) = (self.tasks[id].as_mut().expect("seen"), &mut self.stacks[at]);
        if let Some(saved) = task.saved.take() {
            saved.prefetch(&self.pool);
            // SAFETY: saved from this stack, to this pool, for this task.
            let sp = unsafe { stack.shared.restore(id as u32, saved, &mut self.pool) };
            assert_eq!(sp, task.sp);
            stack.resident = Resident::Owner(id as u32);
        }
        assert_eq!(
            read(task.sp, task.bytes.len()),
            task.bytes,
            "frames of task {id}"
        );
        assert_eq!(
            read(stack.boundary, stack.base_frames.len()),
            stack.base_frames,
            "base frames under task {id}"
        );
        true
    }

    /// The running task ends.
    fn end(&mut self, id: usize) {
        let task = self.tasks[id].take().expect("running");
        let stack = &mut self.stacks[task.stack];
        // Returning frames leave anything behind.
        write(
            task.sp,
            &self.random.bytes(stack.memory.addr() + STACK - task.sp),
        );
        write(stack.idle_sp, &stack.idle);
        stack.shared.finish();
        stack.resident = Resident::Idle;
    }

    fn end_owner(&mut self, at: usize) {
        if let Resident::Owner(id) = self.stacks[at].resident {
            self.end(id as usize);
        }
    }

    /// Gives a task up, wherever its frames are.
    fn forget(&mut self, id: usize) {
        let Some(task) = self.tasks[id].take() else {
            return;
        };
        match task.saved {
            // SAFETY: saved to this pool.
            Some(saved) => unsafe { saved.discard(&mut self.pool) },
            None => {
                let stack = &mut self.stacks[task.stack];
                // SAFETY: the task is parked, and is not resumed any more.
                unsafe { stack.shared.forget(task.sp) };
                stack.resident = Resident::Nobody;
            }
        }
    }

    /// Saves the owner of a stack, if it has one; `false` at the limit.
    fn clear(&mut self, at: usize) -> bool {
        let stack = &mut self.stacks[at];
        let Resident::Owner(id) = stack.resident else {
            return true;
        };
        let task = self.tasks[id as usize].as_mut().expect("owners live");
        let live = self.pool.counters().live;
        let packed = self.random.bytes(1)[0] % 2 == 0;
        // SAFETY: the task is parked at `sp`.
        let saved = unsafe {
            let packed = if packed {
                stack.shared.save_packed(task.sp, &mut self.pool)
            } else {
                Ok(None)
            };
            match packed.transpose() {
                Some(saved) => saved,
                None => stack.shared.save(task.sp, &mut self.pool),
            }
        };
        match saved {
            Ok(saved) => {
                assert!(live + saved.held() as u64 <= MAX_SAVED);
                assert!(saved.held() == saved.len() || packed && saved.held() < saved.len());
                assert_eq!(saved.len(), task.bytes.len());
                task.saved = Some(saved);
                stack.resident = Resident::Nobody;
                self.saves += 1;
                // Saved or not, the bytes on the stack are of no use now.
                write(task.sp, &self.random.bytes(task.bytes.len()));
                true
            }
            Err(error) => {
                assert!(live + task.bytes.len() as u64 > MAX_SAVED, "{error}");
                assert_eq!(
                    read(task.sp, task.bytes.len()),
                    task.bytes,
                    "task {id}, not saved"
                );
                false
            }
        }
    }

    fn check(&self) {
        for stack in &self.stacks {
            assert_eq!(stack.shared.resident(), stack.resident);
        }
        let saved = self
            .tasks
            .iter()
            .flatten()
            .filter_map(|task| task.saved.as_ref());
        let live: usize = saved.map(Saved::held).sum();
        assert_eq!(self.pool.counters().live, live as u64);
        let sum = |count: fn(&Stack) -> u64| self.stacks.iter().map(count).sum::<u64>();
        assert_eq!(sum(|stack| stack.shared.counters().hits), self.hits);
        assert_eq!(sum(|stack| stack.shared.counters().saves), self.saves);
    }
}

/// Bytes that have most words in common with others of this length.
fn alike(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = vec![0x5a; len];
    for word in bytes.chunks_mut(8) {
        if random.bytes(1)[0] % 4 == 0 {
            word.copy_from_slice(&random.bytes(word.len()));
        }
    }
    bytes
}

fn write(at: usize, bytes: &[u8]) {
    let to = std::ptr::with_exposed_provenance_mut::<u8>(at);
    // SAFETY: callers stay within the memory of a stack, on which nothing runs.
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

fn read(at: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let from = std::ptr::with_exposed_provenance::<u8>(at);
    // SAFETY: as in `write`; the memory was initialised as a whole.
    unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
    bytes
}
