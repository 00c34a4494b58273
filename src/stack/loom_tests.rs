//! Models of the table of guarded ranges, which a fault handler reads while workers
//! write: what it reads belongs together, and what is registered is found.
//!
//! All run complete, without a bound on preemptions. `tests/mutants` breaks the code
//! itself.

use loom::sync::Arc;
use loom::thread;

use super::guard::{Hit, Ranges};

/// Two ranges that share an address, which is of another stack in each.
const ADDRESS: usize = 0x1_6000;
const SHORT: [usize; 4] = [0x1_0000, 0x8000, 0x2000, 0x1000];
const LONG: [usize; 4] = [0x1_0000, 0xa000, 0x5000, 0x800];
const IN_SHORT: Hit = Hit {
    guard: 0x1_6000,
    limit: 0x1_7000,
    size: 0x1000,
};
const IN_LONG: Hit = Hit {
    guard: 0x1_5000,
    limit: 0x1_5800,
    size: 0x4800,
};

/// Somewhere else.
const FAR: [usize; 4] = [0x10_0000, 0x1000, 0x1000, 0x100];

fn register(ranges: &Ranges, [base, len, stride, guard]: [usize; 4]) -> super::guard::Registered {
    ranges.register(base, len, stride, guard)
}

/// An entry is used again while another thread reads it.
#[test]
fn loom_a_reader_never_mixes_two_ranges() {
    loom::model(|| {
        let ranges = Arc::new(Ranges::new());
        let short = register(&ranges, SHORT);
        let theirs = Arc::clone(&ranges);
        let writer = thread::spawn(move || {
            drop(short);
            register(&theirs, LONG)
        });
        let found = ranges.find_stack(ADDRESS);
        assert!(
            [None, Some(IN_SHORT), Some(IN_LONG)].contains(&found),
            "mixed: {found:?}"
        );
        let long = writer.join().unwrap();
        assert_eq!(ranges.find_stack(ADDRESS), Some(IN_LONG));
        drop(long);
        assert_eq!(ranges.find_stack(ADDRESS), None);
    });
}

/// Two register at one time, where one entry is vacant: each finds its own from then on,
/// and while it is vacated no other is missed.
#[test]
fn loom_what_is_registered_is_found() {
    loom::model(|| {
        let ranges = Arc::new(Ranges::new());
        drop(register(&ranges, FAR));
        let theirs = Arc::clone(&ranges);
        let other = thread::spawn(move || {
            let far = register(&theirs, FAR);
            assert!(theirs.find_stack(FAR[0]).is_some(), "missed");
            drop(far);
        });
        let short = register(&ranges, SHORT);
        assert_eq!(ranges.find_stack(ADDRESS), Some(IN_SHORT), "missed");
        other.join().unwrap();
        assert_eq!(ranges.find_stack(ADDRESS), Some(IN_SHORT), "missed");
        assert_eq!(ranges.find_stack(FAR[0]), None);
        drop(short);
    });
}

/// Two that make new entries: none is lost from the list, whoever reads meanwhile.
#[test]
fn loom_no_entry_is_lost() {
    loom::model(|| {
        let ranges = Arc::new(Ranges::new());
        let theirs = Arc::clone(&ranges);
        let other = thread::spawn(move || register(&theirs, FAR));
        let short = register(&ranges, SHORT);
        assert_eq!(ranges.find_stack(ADDRESS), Some(IN_SHORT), "missed");
        let far = other.join().unwrap();
        assert_eq!(ranges.find_stack(ADDRESS), Some(IN_SHORT), "missed");
        assert!(ranges.find_stack(FAR[0]).is_some(), "missed");
        drop((short, far));
    });
}
