//! Waiting on a second stack inside a coroutine, as generators, `stacker` and engines of
//! WebAssembly have: as elsewhere.
#![cfg(all(target_arch = "x86_64", target_env = "gnu"))]

use std::cell::Cell;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crore::JoinHandle;

use crate::common::{Kind, kinds};

const MOMENT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3600);

struct Call {
    main: MaybeUninit<libc::ucontext_t>,
    second: MaybeUninit<libc::ucontext_t>,
    work: Option<Box<dyn FnOnce()>>,
}

thread_local!(static CALL: Cell<*mut Call> = const { Cell::new(std::ptr::null_mut()) });

extern "C" fn begin() {
    let call = CALL.replace(std::ptr::null_mut());
    // SAFETY: the one that `on_second_stack` has just made, which waits for us.
    let work = unsafe { (*call).work.take() };
    work.expect("some work")();
}

/// Runs it on a stack of its own, and switches back.
fn on_second_stack<T: 'static>(work: impl FnOnce() -> T + 'static) -> T {
    let mut stack = vec![0_u8; 256 << 10];
    let done = std::rc::Rc::new(Cell::new(None));
    let theirs = std::rc::Rc::clone(&done);
    let mut call = Box::new(Call {
        main: MaybeUninit::zeroed(),
        second: MaybeUninit::zeroed(),
        work: Some(Box::new(move || theirs.set(Some(work())))),
    });
    CALL.set(&raw mut *call);
    // SAFETY: contexts that live until the switch back, a stack of our own.
    unsafe {
        assert_eq!(libc::getcontext(call.second.as_mut_ptr()), 0);
        let second = &mut *call.second.as_mut_ptr();
        second.uc_stack.ss_sp = stack.as_mut_ptr().cast();
        second.uc_stack.ss_size = stack.len();
        second.uc_link = call.main.as_mut_ptr();
        libc::makecontext(call.second.as_mut_ptr(), begin, 0);
        let (main, second) = (call.main.as_mut_ptr(), call.second.as_ptr());
        assert_eq!(libc::swapcontext(main, second), 0);
    }
    done.take().expect("it has returned")
}

/// For a coroutine of each kind that has a stack of its own.
fn each(test: impl Fn(&dyn Fn(Box<dyn FnOnce() + Send>) -> JoinHandle<()>)) {
    crore::run(|| {
        for kind in kinds().filter(|kind| *kind != Kind::SharedStack) {
            test(&|work| kind.spawn(work));
        }
    })
    .unwrap();
}

#[test]
fn waits_there_are_as_elsewhere() {
    each(|spawn| {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = Arc::clone(&pair);
        let one = spawn(Box::new(move || {
            let word = on_second_stack(move || {
                let mut word = [0; 5];
                here.read_exact(&mut word).unwrap();
                word
            });
            assert_eq!(&word, b"hello");
            on_second_stack(move || {
                let told = theirs.0.lock().unwrap();
                drop(theirs.1.wait_while(told, |told| !*told).unwrap());
                crore::park();
                // And a third.
                on_second_stack(|| thread::sleep(MOMENT));
                crore::sleep(MOMENT);
            });
        }));
        // Parked there: others run, and it can be looked at.
        crore::sleep(MOMENT);
        let look = || {
            let all = crore::Handle::current().unwrap().dump();
            assert!(all.iter().all(|info| !format!("{info}").is_empty()));
        };
        look();
        there.write_all(b"hello").unwrap();
        crore::sleep(MOMENT);
        look();
        *pair.0.lock().unwrap() = true;
        pair.1.notify_one();
        crore::sleep(MOMENT);
        look();
        one.coroutine().unpark();
        one.join().unwrap();
    });
}

#[test]
fn many_wait_there_at_one_time() {
    each(|spawn| {
        let all: Vec<_> = (0..50)
            .map(|i| {
                spawn(Box::new(move || {
                    let sum = on_second_stack(move || {
                        let mut sum = i;
                        for step in 0..20 {
                            thread::sleep(Duration::from_micros(100 * (step % 7)));
                            crore::yield_now();
                            sum += step;
                        }
                        sum
                    });
                    assert_eq!(sum, i + 190);
                }))
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    });
}

#[test]
fn a_cancellation_is_heard_there() {
    each(|spawn| {
        let (mut here, _there) = UnixStream::pair().unwrap();
        let one = spawn(Box::new(move || {
            let code = on_second_stack(move || {
                let error = here.read(&mut [0]).unwrap_err();
                thread::sleep(LONG);
                error.raw_os_error()
            });
            assert_eq!(code, Some(libc::ECANCELED));
        }));
        crore::sleep(MOMENT);
        one.cancel();
        one.join().unwrap();
    });
}
