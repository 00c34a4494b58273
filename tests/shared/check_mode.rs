//! Check mode: whoever breaks the contract of `spawn_shared` is caught in the
//! act, and whoever keeps it notices nothing.
//!
//! Each violation is a real one, in a child process that must die of it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::marker::PhantomPinned;
use std::os::unix::process::ExitStatusExt;
use std::pin::{Pin, pin};
use std::process::Output;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::{ptr, thread};

use crate::common::{in_child, stderr as text};
use crore::{Builder, JoinHandle, Runtime};

const SIGABRT: i32 = 6;

fn checked<T>(f: impl FnOnce() -> T) -> T {
    let runtime = Runtime::builder().check_shared(true).build().unwrap();
    runtime.run(f).unwrap()
}

#[track_caller]
fn shared(name: &str, f: impl FnOnce() + 'static) -> JoinHandle<()> {
    // SAFETY: most of the callers break the contract, and only in the child
    // process that is to be stopped for it.
    unsafe { Builder::new().name(name.into()).spawn_shared(f) }.unwrap()
}

/// The report names offender, victim, their spawn places and the address.
#[track_caller]
fn assert_caught(output: &Output, offender: &str, victim: &str) {
    let text = text(output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with("crore: the contract of shared stacks is broken: "))
        .unwrap_or_else(|| panic!("no report: {text}"));
    let (by, of) = line.split_once(" touched address 0x").expect(line);
    assert!(by.contains(offender), "{line}");
    assert!(
        of.contains(&format!("in the frames of coroutine '{victim}' (id ")),
        "{line}"
    );
    assert_eq!(
        line.matches("spawned at tests/shared/check_mode.rs:")
            .count(),
        if offender.starts_with("coroutine") {
            2
        } else {
            1
        },
        "{line}"
    );
}

thread_local! {
    /// Where the victims leave their addresses.
    static LEFT: Cell<*mut ()> = const { Cell::new(ptr::null_mut()) };
}

#[test]
fn a_scoped_thread_that_borrows_a_local() {
    let output = in_child("a_scoped_thread_that_borrows_a_local", || {
        checked(|| {
            let (go, gone) = mpsc::channel();
            shared("lender", move || {
                let mut local = 1_u64;
                let borrowed = &mut local;
                thread::scope(|scope| {
                    let borrower = move || {
                        gone.recv().unwrap();
                        // SAFETY: a valid reference to an initialised number.
                        unsafe { ptr::write_volatile(borrowed, 2) };
                    };
                    let name = thread::Builder::new().name("borrower".into());
                    name.spawn_scoped(scope, borrower).unwrap();
                    crore::park();
                });
            });
            crore::yield_now();
            go.send(()).unwrap();
            loop {
                thread::park();
            }
        });
    });
    assert_caught(&output, "thread 'borrower'", "lender");
}

#[test]
fn a_reference_handed_to_another_coroutine() {
    let output = in_child("a_reference_handed_to_another_coroutine", || {
        checked(|| {
            shared("lender", || {
                let local = 7_u64;
                LEFT.set(ptr::from_ref(&local).cast_mut().cast());
                crore::park();
                assert_eq!(local, 7);
            });
            let borrower = shared("borrower", || {
                // SAFETY: the number lives, but is not here now: the violation.
                let seen = unsafe { LEFT.get().cast::<u64>().read_volatile() };
                println!("{seen}");
            });
            borrower.join().unwrap();
        });
    });
    assert_caught(&output, "coroutine 'borrower' (id ", "lender");
}

#[test]
fn a_rendezvous_packet_on_the_senders_stack() {
    /// As channels of capacity zero have it: the sender waits beside it.
    struct Packet {
        value: Cell<Option<u64>>,
    }
    let output = in_child("a_rendezvous_packet_on_the_senders_stack", || {
        checked(|| {
            shared("sender", || {
                let packet = Packet {
                    value: Cell::new(Some(5)),
                };
                LEFT.set(ptr::from_ref(&packet).cast_mut().cast());
                while packet.value.get().is_some() {
                    crore::park();
                }
            });
            let receiver = crore::Builder::new().name("receiver".into()).spawn(|| {
                // SAFETY: as above.
                let packet = unsafe { &*LEFT.get().cast::<Packet>() };
                packet.value.take().unwrap()
            });
            receiver.unwrap().join().unwrap();
        });
    });
    assert_caught(&output, "coroutine 'receiver' (id ", "sender");
}

#[test]
fn a_future_pinned_on_the_stack_that_registers_itself() {
    /// Whoever completes it writes to where it is pinned.
    #[derive(Default)]
    struct Registered {
        done: Cell<bool>,
        _pinned: PhantomPinned,
    }
    impl Future for Registered {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            LEFT.set(ptr::from_ref(&*self).cast_mut().cast());
            if self.done.get() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }
    }
    let output = in_child("a_future_pinned_on_the_stack_that_registers_itself", || {
        checked(|| {
            shared("waiter", || {
                let mut future = pin!(Registered::default());
                let mut cx = Context::from_waker(Waker::noop());
                while future.as_mut().poll(&mut cx).is_pending() {
                    crore::park();
                }
            });
            let completer = shared("completer", || {
                // SAFETY: as above.
                unsafe { &*LEFT.get().cast::<Registered>() }.done.set(true);
            });
            completer.join().unwrap();
        });
    });
    assert_caught(&output, "coroutine 'completer' (id ", "waiter");
}

#[test]
fn the_worker_itself_outside_any_coroutine() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            // SAFETY: as above.
            unsafe { LEFT.get().cast::<u64>().write_volatile(3) };
        }
    }
    let output = in_child("the_worker_itself_outside_any_coroutine", || {
        checked(|| {
            shared("lender", || {
                let mut local = 7_u64;
                LEFT.set(ptr::from_mut(&mut local).cast());
                crore::park();
            });
            crore::yield_now();
            // One that never starts is dropped on the worker's own stack.
            let late = Late;
            let unstarted = crore::spawn(move || drop(late));
            unstarted.cancel();
            crore::yield_now();
        });
    });
    // The test's thread has the test's name, of which the kernel keeps 15 bytes.
    assert_caught(&output, "thread '", "lender");
}

#[test]
fn a_correct_program_runs_clean() {
    checked(|| {
        let inbox = Rc::new(RefCell::new(Vec::new()));
        let all: Vec<_> = (0..200_u64)
            .map(|i| {
                let inbox = Rc::clone(&inbox);
                // SAFETY: no reference to a local is handed out.
                unsafe {
                    crore::spawn_shared(move || {
                        let local = [i; 100];
                        let mine = &local;
                        for _ in 0..5 {
                            crore::yield_now();
                            assert!(mine.iter().all(|&x| x == i));
                        }
                        let helper = crore::spawn(move || i * 2);
                        let doubled = crore::block_on(helper).unwrap();
                        inbox.borrow_mut().push(doubled);
                        crore::park();
                        mine[0]
                    })
                }
            })
            .collect();
        while inbox.borrow().len() < 200 {
            crore::yield_now();
        }
        all.iter().for_each(|handle| handle.coroutine().unpark());
        let sum: u64 = all.into_iter().map(|handle| handle.join().unwrap()).sum();
        assert_eq!(sum, 19_900);
        assert_eq!(inbox.borrow().iter().sum::<u64>(), 39_800);
    });
}

#[test]
fn a_stack_of_a_former_coroutine_is_signed_anew() {
    let output = in_child("a_stack_of_a_former_coroutine_is_signed_anew", || {
        checked(|| {
            shared("former", crore::yield_now).join().unwrap();
            shared("present", || {
                let local = 7_u64;
                LEFT.set(ptr::from_ref(&local).cast_mut().cast());
                crore::park();
            });
            crore::yield_now();
            // SAFETY: as above.
            unsafe { LEFT.get().cast::<u64>().read_volatile() };
        });
    });
    assert_caught(&output, "coroutine 'main' (id ", "present");
}

#[test]
fn the_environment_variable_switches_it_on() {
    let output = in_child("the_environment_variable_switches_it_on", || {
        // SAFETY: this process has no other thread that reads the environment
        // now: the test harness waits for us.
        unsafe { std::env::set_var("CRORE_CHECK_SHARED", "1") };
        crore::run(|| {
            shared("lender", || {
                let local = 7_u64;
                LEFT.set(ptr::from_ref(&local).cast_mut().cast());
                crore::park();
            });
            crore::yield_now();
            // SAFETY: as above.
            unsafe { LEFT.get().cast::<u64>().read_volatile() };
        })
        .unwrap();
    });
    assert_caught(&output, "coroutine 'main' (id ", "lender");
}
