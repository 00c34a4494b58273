//! The arena against a naive model, and against the kernel.

use std::collections::{HashMap, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;
use std::{fs, io, ptr};

use super::*;
use crate::stack::{GuardChoice, guard};
use crate::sys::left_over::meant_to_leave;
use crate::sys::testing::in_child;

const SIGSEGV: i32 = 11;
const KIB_64: usize = 64 * 1024;

fn small(keep_warm: usize) -> Arena {
    Arena::new(ArenaConfig {
        max_stacks: 100,
        keep_warm,
        guard: GuardChoice::Auto,
        ..ArenaConfig::default()
    })
}

/// The lowest byte of a stack's guard.
fn guard_of(bounds: StackBounds) -> usize {
    guard::find_stack(bounds.limit.get()).unwrap().guard
}

/// Stacks of so many sizes are still out when the test ends.
fn leaves_ranges(count: usize) {
    meant_to_leave("ranges of stacks", count);
}

#[test]
fn a_guard_is_as_large_as_is_wanted_and_the_tops_spread_over_the_pages() {
    leaves_ranges(12);
    for (asked, least) in [
        (1, PAGE),
        (3 * PAGE, 3 * PAGE),
        (KIB_64, KIB_64),
        (1 << 20, 1 << 20),
    ] {
        let mut arena = Arena::new(ArenaConfig {
            max_stacks: 100,
            guard_bytes: asked,
            ..ArenaConfig::default()
        });
        for size in [MIN_SIZE, MIN_SIZE + PAGE, KIB_64] {
            let [one, next] = [0; 2].map(|_| arena.take(size).unwrap().0);
            let [one, next] = [one, next].map(|id| arena.bounds(id).limit.get());
            let guard = guard::find(next - 1).unwrap();
            assert!((least..=least + PAGE).contains(&(next - guard.guard)));
            assert_eq!(guard, guard::find(guard.guard).unwrap());
            assert!(guard::find(guard.guard - 1).is_none(), "the lower stack");
            assert_eq!((next - one) / PAGE % 2, 1);
        }
    }
}

#[test]
fn the_least_stack_has_room_for_the_registers_of_a_signal() {
    // As kernels say here, without vectors, and with AVX-512 and AMX.
    for (signal_bytes, least) in [
        (3_632, MIN_SIZE),
        (2_048, MIN_SIZE),
        (11_952, MIN_SIZE + 2 * PAGE),
    ] {
        assert_eq!(least_size(signal_bytes), least);
    }
}

#[test]
fn headroom_lies_above_the_stack_and_belongs_to_the_same_page() {
    leaves_ranges(1);
    let mut arena = Arena::new(ArenaConfig {
        max_stacks: 100,
        headroom: 256,
        ..ArenaConfig::default()
    });
    for _ in 0..70 {
        let id = arena.take(KIB_64).unwrap().0;
        let bounds = arena.bounds(id);
        let top = bounds.limit.get() + KIB_64;
        assert!(bounds.base.get() + 256 <= top && bounds.base.get().is_multiple_of(64));
        assert_eq!(bounds.base.get().next_multiple_of(PAGE), top);
    }
}

#[test]
fn a_poisoned_stack_keeps_its_bytes_and_its_guard() {
    let mut arena = Arena::new(ArenaConfig::default());
    let id = arena.take(KIB_64).unwrap().0;
    let bounds = arena.bounds(id);
    let word = ptr::with_exposed_provenance_mut::<u64>(bounds.limit.get());
    // SAFETY: the stack is this test's, and is closed only in between.
    unsafe {
        word.write(77);
        arena.set_accessible(id, false).unwrap();
        assert_eq!(
            guard::find_stack(bounds.base.get() - 1).map(|place| place.guard),
            Some(guard_of(bounds))
        );
        arena.set_accessible(id, true).unwrap();
        assert_eq!(word.read(), 77);
        let _ = arena.give(id);
    }
    assert_eq!(
        guard::find(guard_of(bounds)).map(|hit| hit.size),
        Some(KIB_64)
    );
}

fn write(address: usize, value: u8) {
    // SAFETY: tests write into stacks that they have taken, or die trying.
    unsafe { ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(value) }
}

fn read(address: usize) -> u8 {
    // SAFETY: tests read stacks that they have taken.
    unsafe { ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}

fn give(arena: &mut Arena, id: StackId) -> Kept {
    // SAFETY: tests give back what they have taken, once, and run nothing on it.
    unsafe { arena.give(id) }
}

#[test]
fn the_last_one_given_is_the_next_one_taken_bytes_and_all() {
    let mut arena = small(2);
    let ids: Vec<StackId> = (0..3).map(|_| arena.take(KIB_64).unwrap().0).collect();
    for (id, mark) in ids.iter().zip(1..) {
        write(arena.bounds(*id).limit.get(), mark);
    }
    assert_eq!(give(&mut arena, ids[0]), Kept::Warm);
    assert_eq!(give(&mut arena, ids[1]), Kept::Warm);
    assert_eq!(give(&mut arena, ids[2]), Kept::Cold);
    assert_eq!(arena.take(KIB_64).unwrap(), (ids[1], Reuse::Warm));
    assert_eq!(arena.take(KIB_64).unwrap(), (ids[0], Reuse::Warm));
    // Cold ones come before new ones.
    assert_eq!(arena.take(KIB_64).unwrap(), (ids[2], Reuse::Fresh));
    let marks = ids.iter().map(|id| read(arena.bounds(*id).limit.get()));
    assert_eq!(marks.collect::<Vec<_>>(), [1, 2, 0]);
    for id in ids {
        let _ = give(&mut arena, id);
    }
}

#[test]
fn a_spike_is_given_back() {
    let mut arena = small(1);
    let ids: Vec<StackId> = (0..10).map(|_| arena.take(KIB_64).unwrap().0).collect();
    for id in &ids {
        let bounds = arena.bounds(*id);
        (bounds.limit.get()..bounds.base.get())
            .step_by(PAGE)
            .for_each(|page| write(page, 1));
        assert_eq!(arena.resident_pages(*id), KIB_64 / PAGE);
    }
    for id in &ids {
        let _ = give(&mut arena, *id);
    }
    let resident: Vec<usize> = ids.iter().map(|id| arena.resident_pages(*id)).collect();
    assert_eq!(resident, [16, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((arena.counts().warm, arena.counts().cold), (1, 9));
}

#[test]
fn the_stacks_that_come_next_are_known() {
    leaves_ranges(1);
    let mut arena = small(3);
    assert_eq!(arena.warm(0), None);
    let taken = [0; 4].map(|_| arena.take(KIB_64).unwrap().0);
    for id in taken {
        // SAFETY: taken above, once, and not used.
        let _ = unsafe { arena.give(id) };
    }
    let next = [0, 1, 2].map(|nth| arena.warm(nth).unwrap());
    assert_eq!(arena.warm(3), None, "that one is cold");
    let taken = [0; 3].map(|_| arena.take(KIB_64).unwrap().0);
    assert_eq!(next, taken.map(|id| arena.bounds(id)));
}

#[test]
fn a_tended_burst_stays_warm_until_nobody_has_needed_it_for_a_period() {
    leaves_ranges(1);
    let mut arena = Arena::new(ArenaConfig {
        max_stacks: 2_000,
        keep_warm: 2,
        tended: true,
        ..ArenaConfig::default()
    });
    let burst = |arena: &mut Arena, size: usize| {
        let ids: Vec<StackId> = (0..size).map(|_| arena.take(KIB_64).unwrap().0).collect();
        for id in &ids {
            write(arena.bounds(*id).limit.get(), 1);
        }
        ids.iter()
            .for_each(|&id| assert_eq!(give(arena, id), Kept::Warm));
        ids
    };
    let counts = |arena: &Arena| (arena.counts().warm, arena.counts().cold);
    let tend = |arena: &mut Arena| while arena.tend() {};
    assert!(!arena.has_spare());
    let ids = burst(&mut arena, 1_500);
    tend(&mut arena);
    assert_eq!(
        counts(&arena),
        (1_500, 0),
        "they were needed in this period"
    );
    for (needed, left) in [(1_500, 1_500), (1_490, 1_490), (5, 5), (0, 2), (0, 2)] {
        assert!(arena.has_spare() || left == 2);
        burst(&mut arena, needed);
        tend(&mut arena);
        assert_eq!(counts(&arena), (left, 1_500 - left));
    }
    let resident = |id: &&StackId| arena.resident_pages(**id) > 0;
    assert_eq!(ids.iter().filter(resident).count(), 2);
    // While it goes back, in pieces, it is still there to be had.
    burst(&mut arena, 1_500);
    arena.tend();
    assert!(arena.tend() && arena.tend());
    let (warm, cold) = counts(&arena);
    assert!(warm + cold == 1_500 && cold > 0 && warm > 2);
    let warmth = (0..warm).map(|_| arena.take(KIB_64).unwrap().1);
    assert!(warmth.into_iter().all(|reuse| reuse == Reuse::Warm));
    assert_eq!(arena.take(KIB_64).unwrap().1, Reuse::Fresh);
}

#[test]
fn random_operations_agree_with_a_naive_model() {
    leaves_ranges(4);
    /// One list per size, searched from its end.
    #[derive(Default)]
    struct ArenaModel {
        warm: HashMap<usize, Vec<StackId>>,
        cold: HashMap<usize, Vec<StackId>>,
        in_use: Vec<(usize, StackId)>,
        abandoned: usize,
        seen: HashSet<StackId>,
    }
    const SIZES: [usize; 4] = [1, MIN_SIZE + 1, KIB_64, 3 * KIB_64 + 5];
    const KEEP: usize = 7;
    let mut random = 0x2545_f491_u32;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random as usize % below
    };
    let (mut arena, mut model) = (small(KEEP), ArenaModel::default());
    for step in 0..20_000 {
        // Phases of growing and of shrinking.
        let grow = step / 100 % 2 == 0;
        if next(10) < if grow { 7 } else { 3 } {
            let size = SIZES[next(SIZES.len())];
            let expected = model
                .warm
                .get_mut(&size)
                .and_then(Vec::pop)
                .map(|id| (id, Reuse::Warm));
            let expected = expected.or_else(|| {
                model
                    .cold
                    .get_mut(&size)
                    .and_then(Vec::pop)
                    .map(|id| (id, Reuse::Fresh))
            });
            let Ok(taken) = arena.take(size) else {
                assert_eq!(expected, None);
                continue;
            };
            match expected {
                Some(expected) => assert_eq!(taken, expected, "step {step}"),
                None => assert!(model.seen.insert(taken.0) && taken.1 == Reuse::Fresh),
            }
            let bounds = arena.bounds(taken.0);
            assert!(bounds.len() >= size.max(MIN_SIZE) - PAGE / 2);
            assert!(
                bounds.base.get().is_multiple_of(16) && bounds.limit.get().is_multiple_of(PAGE)
            );
            model.in_use.push((size, taken.0));
        } else if !model.in_use.is_empty() {
            let (size, id) = model.in_use.swap_remove(next(model.in_use.len()));
            if next(200) == 0 {
                arena.abandon(id);
                model.abandoned += 1;
                continue;
            }
            let warm = model.warm.entry(size).or_default();
            if warm.len() < KEEP {
                warm.push(id);
                assert_eq!(give(&mut arena, id), Kept::Warm);
            } else {
                model.cold.entry(size).or_default().push(id);
                assert_eq!(give(&mut arena, id), Kept::Cold);
            }
        }
        let counts = arena.counts();
        assert_eq!(counts.in_use, model.in_use.len());
        assert_eq!(
            counts.warm,
            model.warm.values().map(Vec::len).sum::<usize>()
        );
        assert_eq!(
            counts.cold,
            model.cold.values().map(Vec::len).sum::<usize>()
        );
        assert_eq!(counts.abandoned, model.abandoned);
    }
    assert!(model.abandoned > 10, "the sequence abandons some");
    // Nothing overlaps: all guards and stacks ever seen, in order.
    let mut ranges: Vec<_> = model.seen.iter().map(|id| arena.bounds(*id)).collect();
    ranges.sort_by_key(|bounds| bounds.limit);
    assert!(
        ranges
            .windows(2)
            .all(|pair| pair[0].base.get() <= guard_of(pair[1]))
    );
    for bounds in ranges {
        for inside in [guard_of(bounds), bounds.limit.get() - 1] {
            assert_eq!(
                guard::find(inside).map(|hit| hit.guard),
                Some(guard_of(bounds))
            );
        }
        assert_eq!(guard::find(bounds.limit.get()), None);
    }
}

#[test]
fn memory_outlives_the_arena_only_where_a_stack_is_still_out() {
    leaves_ranges(2);
    // One after the other: what the first leaves the second may get.
    let ends: [fn(&mut Arena, StackId); 2] = [Arena::abandon, |_, _| ()];
    for end in ends {
        let mut arena = small(4);
        let (id, _) = arena.take(KIB_64).unwrap();
        let bounds = arena.bounds(id);
        write(bounds.limit.get(), 9);
        end(&mut arena, id);
        drop(arena);
        assert_eq!(
            guard::find(guard_of(bounds)).map(|hit| hit.size),
            Some(KIB_64)
        );
        assert_eq!(read(bounds.limit.get()), 9);
    }
}

#[test]
fn dropped_with_all_stacks_back_it_leaves_nothing() {
    // In a child: another thread's memory may come to lie there at once.
    let name = concat!(
        module_path!(),
        "::dropped_with_all_stacks_back_it_leaves_nothing"
    );
    let output = in_child(name, || {
        let mut arena = small(4);
        let (id, _) = arena.take(KIB_64).unwrap();
        let bounds = arena.bounds(id);
        let _ = give(&mut arena, id);
        let guard = guard_of(bounds);
        drop(arena);
        assert_eq!(guard::find(guard), None);
        eprintln!("forgotten");
        write(bounds.limit.get(), 1);
    });
    assert!(String::from_utf8_lossy(&output.stderr).contains("forgotten"));
    assert_eq!(output.status.signal(), Some(SIGSEGV));
}

/// Dies in the guard of a stack of the given kind, right after its limit was
/// still writable.
fn dies_in_the_guard(guard: GuardChoice, cold: bool) {
    let mut arena = Arena::new(ArenaConfig {
        max_stacks: 4,
        keep_warm: 0,
        tended: true,
        guard,
        ..ArenaConfig::default()
    });
    let mut below = arena.take(KIB_64).unwrap().0;
    let (mut id, _) = arena.take(KIB_64).unwrap();
    if cold {
        // Both together, with the guard between them.
        let _ = (give(&mut arena, id), give(&mut arena, below));
        while arena.counts().cold < 2 {
            arena.tend();
        }
        (id, below) = (arena.take(KIB_64).unwrap().0, arena.take(KIB_64).unwrap().0);
        if arena.bounds(id).limit < arena.bounds(below).limit {
            (id, below) = (below, id);
        }
    }
    let bounds = arena.bounds(id);
    write(bounds.limit.get(), 1);
    // The next lower stack ends right below the guard.
    write(guard_of(bounds) - 1, 1);
    assert_eq!(
        guard_of(bounds) - 1,
        arena.bounds(below).limit.get() + KIB_64 - 1
    );
    eprintln!("writable around it");
    write(bounds.limit.get() - 1, 1);
}

macro_rules! guard_tests {
    ($($name:ident: $guard:expr, $cold:expr;)*) => {$(
        #[test]
        fn $name() {
            let name = concat!(module_path!(), "::", stringify!($name));
            let output = in_child(name, || dies_in_the_guard($guard, $cold));
            assert!(String::from_utf8_lossy(&output.stderr).contains("writable around it"));
            assert_eq!(output.status.signal(), Some(SIGSEGV));
        }
    )*};
}

guard_tests! {
    a_guard_of_the_best_kind_faults: GuardChoice::Auto, false;
    a_guard_of_the_best_kind_faults_on_a_cold_stack: GuardChoice::Auto, true;
    an_mprotect_guard_faults: GuardChoice::Mprotect, false;
    an_mprotect_guard_faults_on_a_cold_stack: GuardChoice::Mprotect, true;
}

#[test]
fn an_exhausted_size_class_says_what_to_do() {
    leaves_ranges(1);
    let mut arena = Arena::new(ArenaConfig {
        max_stacks: 3,
        ..ArenaConfig::default()
    });
    let ids: Vec<StackId> = (0..3).map(|_| arena.take(KIB_64).unwrap().0).collect();
    let error = arena.take(KIB_64).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    let text = error.to_string();
    assert!(
        text.contains("all 3 stacks of 65536 bytes") && text.contains("`max_stacks`"),
        "{text}"
    );
    let _ = give(&mut arena, ids[1]);
    assert_eq!(arena.take(KIB_64).unwrap(), (ids[1], Reuse::Warm));
}

#[test]
fn sizes_are_limited_in_bytes_and_in_number() {
    leaves_ranges(MAX_CLASSES);
    let mut arena = Arena::new(ArenaConfig::default());
    let error = arena.take(MAX_SIZE + 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(arena.counts(), ArenaCounts::default());
    for class in 0..MAX_CLASSES {
        let (id, _) = arena.take(MAX_SIZE - class * PAGE).unwrap();
        assert_eq!((id.class(), id.index()), (class, 0));
    }
    let error = arena.take(MIN_SIZE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    assert!(error.to_string().contains("16 different sizes"), "{error}");
    // The largest size does not eat the address space of the others.
    assert!(arena.counts().address_space_bytes <= MAX_CLASSES << 40);
    assert_eq!(arena.counts().in_use, MAX_CLASSES);
}

#[test]
fn the_mapping_limit_is_named() {
    // In a child: at the limit nobody in the process can map anything.
    let name = concat!(module_path!(), "::the_mapping_limit_is_named");
    let output = in_child(name, || {
        let limit = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
        let limit: usize = limit.trim().parse().unwrap();
        let config = ArenaConfig {
            max_stacks: limit,
            guard: GuardChoice::Mprotect,
            ..ArenaConfig::default()
        };
        let mut arena = Arena::new(config);
        let mut ids = Vec::with_capacity(limit);
        let error = loop {
            match arena.take(MIN_SIZE) {
                Ok((id, _)) => ids.push(id),
                Err(error) => break error,
            }
        };
        // All of it can still be used, and a stack given back taken again.
        write(arena.bounds(*ids.last().unwrap()).limit.get(), 1);
        let id = ids.pop().unwrap();
        let _ = give(&mut arena, id);
        assert_eq!(arena.take(MIN_SIZE).unwrap(), (id, Reuse::Warm));
        eprintln!("{} of {limit}: {error}", ids.len() + 1);
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("vm.max_map_count") && text.contains("sysctl -w"),
        "{text}"
    );
}

#[test]
#[ignore = "takes 4 GiB of memory and some seconds"]
fn a_million_guarded_stacks_at_once() {
    const MILLION: usize = 1_000_000;
    let resident = || {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * PAGE
    };
    let page_tables = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmPTE"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<usize>()
            .unwrap()
            * 1024
    };
    let mut arena = Arena::new(ArenaConfig::default());
    let (before, tables, start) = (resident(), page_tables(), Instant::now());
    let mut ids = Vec::with_capacity(MILLION);
    for _ in 0..MILLION {
        let (id, _) = arena.take(KIB_64).unwrap();
        write(arena.bounds(id).base.get() - 16, 1);
        ids.push(id);
    }
    let took = start.elapsed();
    let each = (resident() - before) as f64 / MILLION as f64;
    let tables = (page_tables() - tables) as f64 / MILLION as f64;
    assert_eq!(arena.counts().in_use, MILLION);
    assert!(each < 4_200.0, "{each} resident bytes a stack");
    println!(
        "{MILLION} stacks in {took:.2?}, {:.0} ns each; {each:.0} B resident and {tables:.0} B of \
         page tables a stack",
        took.as_nanos() as f64 / MILLION as f64
    );
    let start = Instant::now();
    for id in ids {
        let _ = give(&mut arena, id);
    }
    println!(
        "given back in {:.2?}: {:?}",
        start.elapsed(),
        arena.counts()
    );
}
