//! The work of runtimes: every contender in turn, round by round.

use std::io;

use crore_peers::subject::Work;

use crate::contests::{CONTESTS, Contest};
use crate::options::Options;
use crate::results::{self, Figure, Row};
use crate::subjects::Subject;

/// With so many tasks or more, a round takes seconds: there are three at most.
const MANY: u64 = 1_000_000;

/// Holds the contests whose titles contain what is wanted, and hands on the
/// outcome of each.
pub(crate) fn run(
    options: &Options,
    mut done: impl FnMut(results::Contest) -> io::Result<()>,
) -> io::Result<()> {
    let wanted = |contest: &&Contest| contest.title.contains(&options.only);
    for contest in CONTESTS.iter().filter(wanted) {
        done(hold(contest, options)?)?;
    }
    Ok(())
}

fn hold(contest: &Contest, options: &Options) -> io::Result<results::Contest> {
    // The order of the contest: the first is its yardstick.
    let mut subjects = options.among(contest.subjects);
    subjects.retain(|subject| contest.work == Work::Parked || contest.count <= subject.most);
    let count = |subject: &Subject| contest.count.min(subject.most);
    let mut samples = vec![Vec::new(); subjects.len()];
    let rounds = if contest.count < MANY {
        options.rounds
    } else {
        options.rounds.min(3)
    };
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let at = (turn + round) % subjects.len();
            let subject = subjects[at];
            // Each of the tasks is to do something, however slow it is.
            let least = contest.count.min(contest.operations);
            let operations = (contest.operations / subject.slow).max(least);
            let figure = subject.work(contest.work, count(subject), operations)?;
            samples[at].push(figure);
        }
    }
    let rows = subjects.iter().enumerate().map(|(at, subject)| Row {
        name: subject.name.into(),
        count: count(subject),
        figure: Figure::new(&samples[at], &samples[0]),
    });
    Ok(results::Contest {
        title: contest.title.into(),
        work: contest.work.name().into(),
        count: contest.count,
        unit: if contest.work == Work::Parked {
            "bytes"
        } else {
            "ns"
        }
        .into(),
        rounds,
        rows: rows.collect(),
    })
}
