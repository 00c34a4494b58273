//! History: what clients asked and saw, and whether one copy of the store explains it.
//!
//! Operations on one value are linearizable if each can be given a moment between its call
//! and its return so that, done in the order of these moments, each has the output that
//! was seen. Values are independent, so each is looked at by itself. The search is that of
//! Wing and Gong: take any operation that may be the next, see whether its output is right,
//! go on, and go back if that leads nowhere; with Lowe's memory of where one has been.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use crate::machine::{Op, Output};

/// An operation on one value, as a client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which value.
    pub key: String,
    /// What was asked.
    pub op: Op,
    /// When, in a clock that counts the calls and returns.
    pub call: u64,
    /// When it returned, and with what. `None`: not yet, or with an error, so that it may
    /// be done at any time after the call, or never.
    pub returned: Option<(u64, Output)>,
}

/// What all clients saw.
#[derive(Default)]
pub struct History(Mutex<Record>);

#[derive(Default)]
struct Record {
    clock: u64,
    operations: Vec<Operation>,
}

impl Record {
    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

impl History {
    /// A client is about to ask.
    pub fn call(&self, key: &str, op: &Op) -> usize {
        let mut record = self.0.lock().unwrap();
        let operation = Operation {
            key: key.into(),
            op: op.clone(),
            call: record.now(),
            returned: None,
        };
        record.operations.push(operation);
        record.operations.len() - 1
    }

    /// It has the answer to what [`call`](Self::call) gave this number.
    pub fn returned(&self, number: usize, output: Output) {
        let mut record = self.0.lock().unwrap();
        let now = record.now();
        record.operations[number].returned = Some((now, output));
    }

    /// All operations, in the order of their calls.
    pub fn operations(&self) -> Vec<Operation> {
        self.0.lock().unwrap().operations.clone()
    }

    /// Whether one copy of the store explains it; else a value that shows that it does not.
    pub fn check(&self) -> Result<(), String> {
        let mut by_key: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
        for operation in self.operations() {
            by_key
                .entry(operation.key.clone())
                .or_default()
                .push(operation);
        }
        for (key, operations) in by_key {
            if !linearizable(&operations) {
                return Err(format!("{key} is not linearizable: {operations:#?}"));
            }
        }
        Ok(())
    }
}

/// Where the search is: what was done, and what the value is then.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    done: Vec<u64>,
    value: Option<String>,
}

impl Place {
    fn has(&self, operation: usize) -> bool {
        self.done[operation / 64] >> (operation % 64) & 1 == 1
    }

    /// The place after one more operation, unless its output is another than was seen.
    fn after(&self, number: usize, operation: &Operation) -> Option<Self> {
        let mut next = self.clone();
        next.done[number / 64] |= 1 << (number % 64);
        let output = operation.op.apply(&mut next.value);
        let seen = operation.returned.as_ref();
        seen.is_none_or(|(_, seen)| *seen == output).then_some(next)
    }
}

/// Whether operations on one value, which are in the order of their calls, are
/// linearizable.
pub fn linearizable(operations: &[Operation]) -> bool {
    let begin = Place {
        done: vec![0; operations.len().div_ceil(64)],
        value: None,
    };
    let mut been = HashSet::new();
    let mut open = vec![begin];
    while let Some(place) = open.pop() {
        let (candidates, all_returned) = candidates(operations, &place);
        if all_returned {
            return true;
        }
        let next = candidates.into_iter().rev();
        for next in next.filter_map(|one| place.after(one, &operations[one])) {
            if been.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    false
}

/// What may be done next: whatever was called before the first return of all that is left.
/// And whether all that have returned are done.
fn candidates(operations: &[Operation], place: &Place) -> (Vec<usize>, bool) {
    let mut first_return = u64::MAX;
    let mut candidates = Vec::new();
    for (number, operation) in operations.iter().enumerate() {
        if operation.call >= first_return {
            break;
        }
        if place.has(number) {
            continue;
        }
        candidates.push(number);
        if let Some((returned, _)) = operation.returned {
            first_return = first_return.min(returned);
        }
    }
    (candidates, first_return == u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: &str) -> Op {
        Op::Put(value.into())
    }

    fn append(value: &str) -> Op {
        Op::Append(value.into())
    }

    fn sees(value: &str) -> Option<Output> {
        Some(Output::Value((!value.is_empty()).then(|| value.into())))
    }

    const DONE: Option<Output> = Some(Output::Done);

    /// Of operations with their begins, ends and outputs, in the order of the begins.
    fn check(operations: &[(u64, u64, Op, Option<Output>)]) -> bool {
        let operations = operations.iter().map(|(call, end, op, output)| Operation {
            key: "k".into(),
            op: op.clone(),
            call: *call,
            returned: output.clone().map(|output| (*end, output)),
        });
        let operations: Vec<_> = operations.collect();
        let naive = naive(&operations, &mut vec![false; operations.len()], &None);
        assert_eq!(linearizable(&operations), naive, "{operations:#?}");
        naive
    }

    /// The definition, tried out: all orders that keep to the times.
    fn naive(operations: &[Operation], done: &mut Vec<bool>, value: &Option<String>) -> bool {
        let left = |at: &usize| !done[*at];
        let left: Vec<_> = (0..operations.len()).filter(left).collect();
        if left.iter().all(|&at| operations[at].returned.is_none()) {
            return true;
        }
        left.iter().any(|&at| {
            let mut before = left
                .iter()
                .filter_map(|&one| operations[one].returned.as_ref());
            let first = before.all(|(returned, _)| operations[at].call < *returned);
            let mut value = value.clone();
            let output = operations[at].op.apply(&mut value);
            let seen = operations[at].returned.as_ref();
            if !first || seen.is_some_and(|(_, seen)| *seen != output) {
                return false;
            }
            done[at] = true;
            let found = naive(operations, done, &value);
            done[at] = false;
            found
        })
    }

    #[test]
    fn good_histories_are_good() {
        assert!(check(&[]));
        assert!(check(&[(1, 2, put("a"), DONE), (3, 4, Op::Get, sees("a"))]));
        // While a write goes on a read may see it or not.
        for seen in ["", "a"] {
            assert!(check(&[
                (1, 4, put("a"), DONE),
                (2, 3, Op::Get, sees(seen))
            ]));
        }
        // Two readers may see two writes in one order.
        assert!(check(&[
            (1, 10, put("a"), DONE),
            (2, 11, put("b"), DONE),
            (3, 4, Op::Get, sees("b")),
            (5, 6, Op::Get, sees("a")),
            (7, 8, Op::Get, sees("a")),
        ]));
        // What failed may be done late, or never.
        assert!(check(&[
            (1, 0, put("a"), None),
            (2, 3, put("b"), DONE),
            (4, 5, Op::Get, sees("b")),
            (6, 7, Op::Get, sees("a")),
        ]));
        assert!(check(&[(1, 0, put("a"), None), (2, 3, Op::Get, sees(""))]));
        let swap = Op::Swap {
            expect: Some("ab".into()),
            new: "c".into(),
        };
        assert!(check(&[
            (1, 4, append("b"), DONE),
            (2, 3, append("a"), DONE),
            (5, 6, swap, Some(Output::Swapped(true))),
            (7, 8, Op::Delete, DONE),
            (9, 10, Op::Get, sees("")),
        ]));
    }

    #[test]
    fn bad_histories_are_found() {
        // A stale read.
        assert!(!check(&[
            (1, 2, put("a"), DONE),
            (3, 4, put("b"), DONE),
            (5, 6, Op::Get, sees("a")),
        ]));
        // A lost write.
        assert!(!check(&[(1, 2, put("a"), DONE), (3, 4, Op::Get, sees(""))]));
        // What nobody wrote.
        assert!(!check(&[
            (1, 2, put("a"), DONE),
            (3, 4, Op::Get, sees("b"))
        ]));
        // A command that was done twice.
        assert!(!check(&[
            (1, 2, append("a"), DONE),
            (3, 4, Op::Get, sees("aa"))
        ]));
        // Two readers see two writes in two orders.
        assert!(!check(&[
            (1, 20, put("a"), DONE),
            (2, 21, put("b"), DONE),
            (3, 4, Op::Get, sees("a")),
            (5, 6, Op::Get, sees("b")),
            (7, 8, Op::Get, sees("a")),
        ]));
        // A write is seen, and then is not.
        assert!(!check(&[
            (1, 9, put("a"), DONE),
            (2, 3, Op::Get, sees("a")),
            (4, 5, Op::Get, sees("")),
        ]));
        // What failed was done before it was asked for.
        assert!(!check(&[
            (1, 2, Op::Get, sees("a")),
            (3, 0, put("a"), None)
        ]));
        // Both of two swaps from the same value.
        let swap = |new: &str| Op::Swap {
            expect: None,
            new: new.into(),
        };
        let swapped = Some(Output::Swapped(true));
        assert!(!check(&[
            (1, 3, swap("a"), swapped.clone()),
            (2, 4, swap("b"), swapped)
        ]));
    }

    /// Small histories of all kinds, good and bad, against the definition.
    #[test]
    fn the_search_agrees_with_the_definition() {
        let mut random = 1_u64;
        let mut below = |n: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % n
        };
        let (mut good, mut bad) = (0, 0);
        for _ in 0..3000 {
            let mut operations = Vec::new();
            for number in 0..6_u64 {
                let call = number * 4 + below(4);
                let name = ["a", "b"][below(2) as usize];
                let (op, output) = match below(3) {
                    0 => (put(name), DONE),
                    1 => (append(name), DONE),
                    _ => (Op::Get, sees(["", "a", "b", "ab", "ba"][below(5) as usize])),
                };
                let output = output.filter(|_| below(8) > 0);
                operations.push((call, call + 1 + below(20), op, output));
            }
            if check(&operations) {
                good += 1;
            } else {
                bad += 1;
            }
        }
        assert!(good > 100 && bad > 100, "{good} good, {bad} bad");
    }

    #[test]
    fn a_long_history_takes_no_long_search() {
        let history = History::default();
        // Eight clients at a time, each of whose appends and reads overlap.
        let mut value = None;
        for round in 0..500 {
            let ops: Vec<_> = (0..8)
                .map(|one| if one % 2 == 0 { append("x") } else { Op::Get })
                .collect();
            let calls: Vec<_> = ops.iter().map(|op| history.call("k", op)).collect();
            for (call, op) in calls.into_iter().zip(&ops) {
                history.returned(call, op.apply(&mut value));
            }
            if round % 50 == 49 {
                value = None;
                let call = history.call("k", &Op::Delete);
                history.returned(call, Output::Done);
            }
        }
        history.check().unwrap();
        let late = history.call("k", &Op::Get);
        history.returned(late, Output::Value(Some("y".into())));
        history.check().unwrap_err();
    }
}
