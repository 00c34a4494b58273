//! Blocks by themselves, and what refuses a glibc that is not as expected.

use super::block::TlsBlock;
use super::check::{glibc, support};
use super::entered::end_of_thread_locals;
use super::template::{TcbWord, Template};
use super::thread_pointer::{ThreadPointer, call_in};

fn block() -> TlsBlock {
    let block = TlsBlock::new().unwrap();
    // SAFETY: nobody uses the block.
    unsafe { block.renew((0x1000, 0x2000)) }.unwrap()
}

#[test]
fn this_glibc_is_known() {
    assert_eq!(support(), Ok(()));
}

#[test]
fn blocks_are_in_glibcs_list_while_they_exist() {
    let lists = glibc().unwrap().lists;
    let blocks: Vec<_> = (0..10).map(|_| block()).collect();
    let nodes: Vec<_> = blocks.iter().map(TlsBlock::node).collect();
    assert!(nodes.iter().all(|&node| lists.holds(node)));
    // SAFETY: the lock is held.
    assert!(lists.locked(|| unsafe { lists.are_closed() }));
    drop(blocks);
    assert!(nodes.iter().all(|&node| !lists.holds(node)));
}

#[test]
fn numbers_are_unlike_the_kernels_and_each_blocks_own() {
    let blocks: Vec<_> = (0..100).map(|_| block()).collect();
    let mut numbers: Vec<_> = blocks.iter().map(TlsBlock::number).collect();
    assert!(numbers.iter().all(|n| (1 << 22..1 << 30).contains(n)));
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 100);
}

#[test]
fn a_block_that_is_renewed_is_as_a_new_one() {
    unsafe extern "C" fn use_it() {
        extern "C" fn nothing(_: *mut std::ffi::c_void) {}
        // SAFETY: libc's functions with valid arguments, in a block that will
        // be ended.
        unsafe {
            *libc::__errno_location() = 77;
            let mut key = 0;
            assert_eq!(libc::pthread_key_create(&mut key, Some(nothing)), 0);
            libc::pthread_setspecific(key, 8 as *const _);
            assert!(!libc::strerror(1_000_007).is_null());
            libc::dlsym(libc::RTLD_DEFAULT, c"there is no such symbol".as_ptr());
            end_of_thread_locals();
            libc::pthread_key_delete(key);
        }
    }
    let first = block();
    let fresh = first.libc_words();
    let here = ThreadPointer::current();
    // SAFETY: nobody uses the block; malloc's caches go along and come back.
    unsafe {
        first.take_malloc_from(here);
        call_in(first.pointer(), here, use_it);
        first.give_malloc_to(here);
    }
    assert_ne!(first.libc_words(), fresh);
    // SAFETY: it has ended.
    let again = unsafe { first.renew((0, 0)) }.unwrap();
    assert_eq!(again.libc_words(), fresh);
}

#[test]
fn a_thread_that_is_not_as_expected_is_refused() {
    let glibc = glibc().unwrap();
    let learn = |change: &dyn Fn(&mut super::probe::ProbePair)| {
        let mut pair = super::probe::look(glibc.layout, glibc.lists).unwrap();
        change(&mut pair);
        Template::learn(glibc.layout, &pair).err()
    };
    assert_eq!(learn(&|_| ()), None);
    let place = |what| glibc.template.place(what);
    // A word that differs in no way that is known.
    let of_own = glibc.template.own.last().unwrap().0;
    let why = learn(&|pair| pair.seen[1].at[0].thread[of_own] += 8).unwrap();
    assert!(why.contains(&format!("byte {}", of_own * 8)), "{why}");
    // No number, no stack, where they should be.
    for what in [TcbWord::Tid, TcbWord::Stack, TcbWord::StackLen] {
        let at = place(what);
        let why = learn(&|pair| pair.seen.iter_mut().for_each(|s| s.at[0].thread[at] = 1));
        assert!(why.unwrap().contains("not where it is expected"));
    }
    // malloc keeps more than it should.
    let why = learn(&|pair| {
        for seen in &mut pair.seen {
            seen.at[1].libc.iter_mut().for_each(|word| *word += 1);
        }
    });
    assert!(why.unwrap().contains("malloc"));
    // Names of errors are kept elsewhere.
    let why = learn(&|pair| {
        for seen in &mut pair.seen {
            let (before, after) = seen.at.split_at_mut(2);
            after[0].thread.clone_from(&before[1].thread);
            after[0].libc.clone_from(&before[1].libc);
        }
    });
    assert!(why.unwrap().contains("names"));
}

/// glibc's own threads of `aio` and timers have such; it keeps their stacks for the next.
#[test]
fn a_stack_of_broken_pages_is_no_reason_to_refuse() {
    let glibc = glibc().unwrap();
    let odd = std::thread::Builder::new().stack_size((256 << 10) + 192);
    odd.spawn(|| {}).unwrap().join().unwrap();
    assert!(super::probe::look(glibc.layout, glibc.lists).is_ok());
}
