//! Where a thread is that a signal's handler holds: its calls, found from another thread.
//!
//! The code may have been interrupted anywhere, so its tables may be wrong: within an
//! assembly that switches stacks they are. Nothing is read, therefore, but what the
//! kernel says can be read, and what is found may be nonsense behind the first call.
//!
//! Nothing here takes memory or a lock once the thread is held, which may have stopped in
//! an allocator.

use std::sync::Arc;

use gimli::{
    CfaRule, Evaluation, EvaluationResult, EvaluationStorage, Location, Piece, Register,
    RegisterRule, UnwindContext, UnwindContextStorage, UnwindExpression, UnwindTableRow, Value,
};

use super::memory::MemoryReader;
use super::modules::{Bytes, Module, Modules, UnwindEntry};
use super::registers::RegisterSet;

/// What it takes to walk a stack, made before.
pub(crate) struct Unwinder {
    modules: Arc<Modules>,
    context: Box<UnwindContext<usize, InPlace>>,
    memory: MemoryReader,
}

/// Registers that a table has rules for, at the most; what has more is not walked.
const RULES: usize = 40;

/// Where tables are read and their expressions computed: it takes no memory, and not much
/// of a coroutine's stack.
struct InPlace;

impl UnwindContextStorage<usize> for InPlace {
    type Rules = [(Register, RegisterRule<usize>); RULES];
    type Stack = Box<[UnwindTableRow<usize, Self>; 4]>;
}

impl<'a> EvaluationStorage<Bytes<'a>> for InPlace {
    type Stack = [Value; 64];
    type ExpressionStack = [(Bytes<'a>, Bytes<'a>); 4];
    type Result = [Piece<Bytes<'a>>; 1];
}

impl Unwinder {
    pub(crate) fn new() -> Self {
        Self {
            modules: Modules::loaded(),
            context: Box::new(UnwindContext::new_in()),
            memory: MemoryReader::new(),
        }
    }

    /// Gives the addresses of the calls that led there, the innermost first, and where each
    /// frame is, as long as `next` says.
    pub(crate) fn walk(&mut self, from: RegisterSet, mut next: impl FnMut(usize, usize) -> bool) {
        self.memory.forget();
        let (mut registers, mut exact) = (from, true);
        loop {
            // A call is before the address where it returns to.
            let call = registers.ip.wrapping_sub(usize::from(!exact));
            if registers.ip == 0 || !next(call, registers.sp()) {
                return;
            }
            match self.caller(call, &registers) {
                Some((caller, interrupted)) => (registers, exact) = (caller, interrupted),
                None => return,
            }
        }
    }

    /// The registers of the caller, and whether it was interrupted rather than has called.
    fn caller(&mut self, call: usize, registers: &RegisterSet) -> Option<(RegisterSet, bool)> {
        let module = self.modules.find(call)?;
        let entry = module.entry(call)?;
        let (entries, bases) = (module.entries(), module.bases());
        let row = entry.unwind_info_for_address(&entries, bases, &mut self.context, call as u64);
        let row = row.ok()?;
        let mut frame = LeftFrame {
            module,
            entry: &entry,
            registers,
            memory: &mut self.memory,
        };
        let cfa = frame.cfa(row.cfa())?;
        let mut caller = *registers;
        for (which, rule) in row.registers() {
            caller.set(*which, frame.value(rule, *which, cfa));
        }
        let returns = entry.cie().return_address_register();
        let ip = match row.register(returns) {
            RegisterRule::Undefined if returns_in_register() => caller.get(returns)?,
            RegisterRule::Undefined => return None,
            _ => frame.value(&row.register(returns), returns, cfa)?,
        };
        let advances = cfa != registers.sp() || ip != registers.ip;
        caller.return_to(cfa, ip);
        advances.then_some((caller, entry.is_signal_trampoline()))
    }
}

/// Whether a function that has called nobody has its return address in a register.
fn returns_in_register() -> bool {
    cfg!(target_arch = "aarch64")
}

/// One that is being left.
struct LeftFrame<'a> {
    module: &'a Module,
    entry: &'a UnwindEntry<'a>,
    registers: &'a RegisterSet,
    memory: &'a mut MemoryReader,
}

impl LeftFrame<'_> {
    /// Where the caller's stack ended at the call.
    fn cfa(&mut self, rule: &CfaRule<usize>) -> Option<usize> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => self
                .registers
                .get(*register)?
                .checked_add_signed(*offset as isize),
            CfaRule::Expression(expression) => self.compute(expression, None),
        }
    }

    /// What the caller had in a register.
    fn value(&mut self, rule: &RegisterRule<usize>, which: Register, cfa: usize) -> Option<usize> {
        match rule {
            RegisterRule::SameValue => self.registers.get(which),
            RegisterRule::Offset(offset) => {
                self.memory.word(cfa.checked_add_signed(*offset as isize)?)
            }
            RegisterRule::ValOffset(offset) => cfa.checked_add_signed(*offset as isize),
            RegisterRule::Register(other) => self.registers.get(*other),
            RegisterRule::Expression(expression) => {
                let address = self.compute(expression, Some(cfa))?;
                self.memory.word(address)
            }
            RegisterRule::ValExpression(expression) => self.compute(expression, Some(cfa)),
            RegisterRule::Constant(value) => Some(*value as usize),
            _ => None,
        }
    }

    fn compute(
        &mut self,
        expression: &UnwindExpression<usize>,
        cfa: Option<usize>,
    ) -> Option<usize> {
        let entries = self.module.entries();
        let code = expression.get(&entries).ok()?;
        let mut steps = Evaluation::<_, InPlace>::new_in(code.0, self.entry.cie().encoding());
        steps.set_max_iterations(1_000);
        if let Some(cfa) = cfa {
            steps.set_initial_value(cfa as u64);
        }
        let mut wants = steps.evaluate().ok()?;
        loop {
            wants = match wants {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = Value::Generic(self.registers.get(register)? as u64);
                    steps.resume_with_register(value).ok()?
                }
                EvaluationResult::RequiresMemory {
                    address, size: 8, ..
                } => {
                    let value = Value::Generic(self.memory.word(address as usize)? as u64);
                    steps.resume_with_memory(value).ok()?
                }
                _ => return None,
            };
        }
        match steps.as_result().last()?.location {
            Location::Address { address } => Some(address as usize),
            _ => None,
        }
    }
}
