//! State machine: the values, and the sessions by which a repeated command is done once.
//!
//! It is a function of the committed commands alone, so all replicas have the same one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Sessions that are remembered; one more, and the one that was idle longest is forgotten.
const SESSIONS: usize = 10_000;

/// What a client wants done with one value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// Reads it.
    Get,
    /// Sets it.
    Put(String),
    /// Adds to its end.
    Append(String),
    /// Sets it to `new` if it is `expect`.
    Swap {
        /// What it has to be; `None`: not there.
        expect: Option<String>,
        /// What it becomes.
        new: String,
    },
    /// Removes it.
    Delete,
}

/// What came of an [`Op`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Output {
    /// Of a read.
    Value(Option<String>),
    /// Of a write.
    Done,
    /// Whether it was what was expected.
    Swapped(bool),
}

impl Op {
    /// Does it: all that the store means is here.
    pub fn apply(&self, value: &mut Option<String>) -> Output {
        match self {
            Self::Get => return Output::Value(value.clone()),
            Self::Put(new) => *value = Some(new.clone()),
            Self::Append(more) => value.get_or_insert_default().push_str(more),
            Self::Delete => *value = None,
            Self::Swap { expect, new } => {
                let same = value == expect;
                if same {
                    *value = Some(new.clone());
                }
                return Output::Swapped(same);
            }
        }
        Output::Done
    }
}

/// What an entry of the log has the machine do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    /// Nothing: the first entry of a leader's term.
    Nothing,
    /// Opens a session, whose number is the entry's index.
    Open,
    /// An operation of a client.
    Do {
        /// Which session's.
        session: u64,
        /// Its number in the session: they only grow.
        number: u64,
        /// Which value.
        key: String,
        /// What to do.
        op: Op,
    },
}

impl Command {
    /// About how many bytes it has.
    pub fn size(&self) -> usize {
        let Self::Do { key, op, .. } = self else {
            return 16;
        };
        let op = match op {
            Op::Get | Op::Delete => 0,
            Op::Put(text) | Op::Append(text) => text.len(),
            Op::Swap { expect, new } => new.len() + expect.as_ref().map_or(0, String::len),
        };
        32 + key.len() + op
    }
}

/// What came of a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Of [`Command::Nothing`].
    Nothing,
    /// The session's number.
    Opened(u64),
    /// It was done, now or when it came first.
    Did(Output),
    /// A later command of the session was done already.
    TooLate,
    /// The session is not known, or forgotten.
    NoSession,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    /// The last command that was done, and what came of it.
    number: u64,
    output: Output,
    /// The index of the last entry that used the session.
    used: u64,
}

/// All values and sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    values: BTreeMap<String, String>,
    sessions: BTreeMap<u64, Session>,
}

impl Machine {
    /// Does the command of the entry at `index`.
    pub fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        match command {
            Command::Nothing => Outcome::Nothing,
            Command::Open => self.open(index),
            Command::Do {
                session,
                number,
                key,
                op,
            } => {
                let Some(known) = self.sessions.get_mut(session) else {
                    return Outcome::NoSession;
                };
                known.used = index;
                if *number < known.number {
                    return Outcome::TooLate;
                }
                if *number > known.number {
                    let mut value = self.values.remove(key);
                    known.output = op.apply(&mut value);
                    known.number = *number;
                    self.values.extend(value.map(|value| (key.clone(), value)));
                }
                Outcome::Did(known.output.clone())
            }
        }
    }

    fn open(&mut self, index: u64) -> Outcome {
        if self.sessions.len() >= SESSIONS {
            let idle = self.sessions.iter().min_by_key(|(_, session)| session.used);
            let idle = *idle.expect("there are sessions").0;
            self.sessions.remove(&idle);
        }
        let session = Session {
            number: 0,
            output: Output::Done,
            used: index,
        };
        self.sessions.insert(index, session);
        Outcome::Opened(index)
    }

    /// A value as it is now.
    pub fn get(&self, key: &str) -> Option<String> {
        self.values.get(key).cloned()
    }

    /// The planted bug [`SNAPSHOT_FORGETS_SESSIONS`](crate::Bugs::SNAPSHOT_FORGETS_SESSIONS).
    pub(crate) fn forget_what_was_done(&mut self) {
        self.sessions.values_mut().for_each(|one| one.number = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(session: u64, number: u64, text: &str) -> Command {
        Command::Do {
            session,
            number,
            key: "k".into(),
            op: Op::Append(text.into()),
        }
    }

    #[test]
    fn operations_do_what_they_say() {
        let mut value = None;
        let swap = |expect: Option<&str>, new: &str| Op::Swap {
            expect: expect.map(Into::into),
            new: new.into(),
        };
        assert_eq!(Op::Get.apply(&mut value), Output::Value(None));
        assert_eq!(
            swap(Some("x"), "a").apply(&mut value),
            Output::Swapped(false)
        );
        assert_eq!(swap(None, "a").apply(&mut value), Output::Swapped(true));
        assert_eq!(Op::Append("b".into()).apply(&mut value), Output::Done);
        assert_eq!(Op::Get.apply(&mut value), Output::Value(Some("ab".into())));
        assert_eq!(Op::Put("c".into()).apply(&mut value), Output::Done);
        assert_eq!(value.as_deref(), Some("c"));
        assert_eq!(Op::Delete.apply(&mut value), Output::Done);
        assert_eq!(value, None);
    }

    #[test]
    fn a_command_that_comes_again_is_done_once() {
        let mut machine = Machine::default();
        assert_eq!(machine.apply(1, &Command::Open), Outcome::Opened(1));
        for index in 2..4 {
            let outcome = machine.apply(index, &append(1, 1, "a"));
            assert_eq!(outcome, Outcome::Did(Output::Done));
        }
        machine.apply(4, &append(1, 3, "b"));
        assert_eq!(machine.apply(5, &append(1, 2, "x")), Outcome::TooLate);
        assert_eq!(machine.apply(6, &append(9, 1, "x")), Outcome::NoSession);
        assert_eq!(machine.get("k").as_deref(), Some("ab"));
    }

    #[test]
    fn the_session_that_was_idle_longest_is_forgotten() {
        let mut machine = Machine::default();
        let all = SESSIONS as u64;
        (1..=all).for_each(|index| drop(machine.apply(index, &Command::Open)));
        machine.apply(all + 1, &append(1, 1, "a"));
        machine.apply(all + 2, &Command::Open);
        assert_eq!(
            machine.apply(all + 3, &append(2, 1, "x")),
            Outcome::NoSession
        );
        machine.apply(all + 4, &append(1, 2, "b"));
        assert_eq!(machine.get("k").as_deref(), Some("ab"));
    }
}
