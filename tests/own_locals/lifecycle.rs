//! Coroutines with thread-locals of their own: what begins, what ends, what
//! panics do, who may be spawned.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crore::{Builder, JoinHandle};

#[cfg(feature = "futex")]
use crate::common;

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
    static LIST: RefCell<Vec<String>> = RefCell::new(vec!["first".into()]);
}

fn own<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().own_thread_locals(true).spawn(f).unwrap()
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

fn set_errno(code: i32) {
    // SAFETY: libc's own thread-local.
    unsafe { *libc::__errno_location() = code };
}

#[test]
fn each_coroutine_has_its_own_values() {
    crore::run(|| {
        NUMBER.set(7);
        set_errno(5);
        let all: Vec<_> = (0..100)
            .map(|i| {
                own(move || {
                    assert_eq!(NUMBER.replace(i), 0);
                    assert_eq!(LIST.take(), ["first"]);
                    LIST.set(vec![i.to_string(); 3]);
                    set_errno(i as i32);
                    for _ in 0..10 {
                        crore::yield_now();
                        assert_eq!(errno(), i as i32);
                        assert_eq!(NUMBER.get(), i);
                        assert_eq!(LIST.with_borrow(|list| list[2].clone()), i.to_string());
                    }
                })
            })
            .collect();
        // Those without share the thread's.
        let plain = crore::spawn(|| NUMBER.replace(8));
        assert_eq!(plain.join().unwrap(), 7);
        all.into_iter().for_each(|one| one.join().unwrap());
        assert_eq!(NUMBER.get(), 8);
    })
    .unwrap();
}

#[test]
fn each_coroutine_is_a_thread_to_std() {
    crore::run(|| {
        let here = std::thread::current().id();
        let ids = (0..50).map(|_| {
            own(|| {
                let mine = std::thread::current();
                assert_eq!(mine.name(), None);
                crore::yield_now();
                assert_eq!(std::thread::current().id(), mine.id());
                mine.id()
            })
        });
        let ids: Vec<_> = ids.collect();
        let mut ids: Vec<_> = ids.into_iter().map(|id| id.join().unwrap()).collect();
        ids.push(here);
        ids.sort_by_key(|id| format!("{id:?}"));
        ids.dedup();
        assert_eq!(ids.len(), 51);
        assert_eq!(std::thread::current().id(), here);
    })
    .unwrap();
}

/// And the kernel's name of the worker stays.
#[cfg(feature = "futex")]
#[test]
fn std_knows_each_by_its_name() {
    fn of_worker() -> Vec<u8> {
        std::fs::read("/proc/thread-self/comm").unwrap()
    }
    let is = |name: Option<&str>| assert_eq!(std::thread::current().name(), name);
    crore::run(|| {
        let (name, comm) = (
            std::thread::current().name().map(str::to_owned),
            of_worker(),
        );
        for round in 0..100 {
            let all = ["one", "a name of more than fifteen bytes", ""].map(|name| {
                let one = Builder::new().name(name.into()).own_thread_locals(true);
                one.spawn(move || {
                    is(Some(name));
                    crore::yield_now();
                    is(Some(name));
                    thread_local!(static LAST: AtEnd = const { AtEnd(Cell::new("")) });
                    struct AtEnd(Cell<&'static str>);
                    impl Drop for AtEnd {
                        fn drop(&mut self) {
                            let here = std::thread::current();
                            assert_eq!(here.name(), Some(self.0.get()));
                        }
                    }
                    LAST.with(|last| last.0.set(name));
                    std::thread::current()
                })
            });
            own(move || is(None)).join().unwrap();
            let ids = all.map(|one| one.unwrap().join().unwrap().id());
            assert!(ids[0] != ids[1] && ids[1] != ids[2], "round {round}");
            is(name.as_deref());
            assert_eq!(of_worker(), comm);
        }
        // std can have no such name.
        let odd = Builder::new().name("a\0b".into()).own_thread_locals(true);
        odd.spawn(move || is(None)).unwrap().join().unwrap();
    })
    .unwrap();
}

#[cfg(feature = "futex")]
#[test]
fn a_named_one_is_parked_and_cancelled_as_ever() {
    crore::run(|| {
        let named = || Builder::new().name("n".into()).own_thread_locals(true);
        let (say, said) = crore::sync::oneshot::channel();
        let parks = named().spawn(move || {
            say.send(std::thread::current()).unwrap();
            std::thread::park();
        });
        let parks = parks.unwrap();
        said.recv().unwrap().unpark();
        parks.join().unwrap();
        let waits = named().spawn(crore::park).unwrap();
        crore::yield_now();
        waits.cancel();
        assert!(waits.join().unwrap_err().is_cancelled());
        let early = named().spawn(|| unreachable!()).unwrap();
        early.cancel();
        assert!(early.join().unwrap_err().is_cancelled());
        let panics = named().spawn(|| panic!("as expected")).unwrap();
        assert!(panics.join().unwrap_err().is_panic());
    })
    .unwrap();
}

#[cfg(feature = "futex")]
#[test]
fn a_panic_has_the_name() {
    let output = common::in_child("a_panic_has_the_name", || {
        let _ = std::panic::take_hook();
        crore::run(|| {
            let named = Builder::new().name("mine".into());
            let named = named
                .own_thread_locals(true)
                .spawn(|| panic!("as expected"));
            assert!(named.unwrap().join().is_err());
        })
        .unwrap();
    });
    let text = common::stderr(&output);
    assert!(text.contains("crore: coroutine 'mine' (id "), "{text}");
    assert!(text.contains("thread 'mine' "), "{text}");
}

#[test]
fn what_is_used_again_begins_anew() {
    crore::run(|| {
        for i in 0..2000 {
            let one = own(move || {
                assert_eq!(NUMBER.replace(i + 1), 0);
                assert_eq!(LIST.replace(Vec::new()), ["first"]);
                assert_eq!(errno(), 0);
                set_errno(9);
            });
            one.join().unwrap();
        }
    })
    .unwrap();
}

/// Notes when it is dropped, and whether a panic is under way then.
struct Note(Arc<Mutex<Vec<String>>>, &'static str);

impl Drop for Note {
    fn drop(&mut self) {
        let panics = if std::thread::panicking() {
            ", panicking"
        } else {
            ""
        };
        self.0.lock().unwrap().push(format!("{}{panics}", self.1));
    }
}

thread_local!(static NOTE: RefCell<Option<Note>> = const { RefCell::new(None) });

#[test]
fn destructors_have_run_when_the_joiner_knows() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    crore::run(|| {
        let (at_value, at_local) = (Arc::clone(&notes), Arc::clone(&notes));
        let one = own(move || {
            NOTE.set(Some(Note(at_local, "thread-local")));
            let _frame = Note(at_value, "frame");
            crore::yield_now();
        });
        one.join().unwrap();
        assert_eq!(*notes.lock().unwrap(), ["frame", "thread-local"]);
    })
    .unwrap();
}

#[test]
fn destructors_after_a_panic_know_nothing_of_it() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    crore::run(|| {
        let (at_value, at_local) = (Arc::clone(&notes), Arc::clone(&notes));
        let one = own(move || {
            NOTE.set(Some(Note(at_local, "thread-local")));
            let _frame = Note(at_value, "frame");
            crore::yield_now();
            panic!("the payload");
        });
        let error = one.join().unwrap_err();
        let payload = error.try_into_panic().unwrap();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "the payload");
        let expected = ["frame, panicking", "thread-local"];
        assert_eq!(*notes.lock().unwrap(), expected);
        assert!(!std::thread::panicking());
    })
    .unwrap();
}

#[test]
fn destructors_may_wait() {
    struct Sleeper(Arc<AtomicU32>);
    impl Drop for Sleeper {
        fn drop(&mut self) {
            for _ in 0..3 {
                crore::sleep(Duration::from_millis(1));
                crore::yield_now();
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    thread_local!(static SLEEPER: RefCell<Option<Sleeper>> = const { RefCell::new(None) });
    for panics in [false, true] {
        let slept = Arc::new(AtomicU32::new(0));
        crore::run(|| {
            let theirs = Arc::clone(&slept);
            let one = own(move || {
                SLEEPER.set(Some(Sleeper(theirs)));
                assert!(!panics);
            });
            assert_eq!(one.join().is_err(), panics);
            assert_eq!(slept.load(Ordering::Relaxed), 3);
        })
        .unwrap();
    }
}

#[test]
fn a_cancelled_one_still_ends_its_thread_locals() {
    struct Sleeper(Arc<AtomicU32>);
    impl Drop for Sleeper {
        fn drop(&mut self) {
            // Cancelled, but a destructor of a thread-local can't be unwound.
            crore::sleep(Duration::from_millis(1));
            crore::yield_now();
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    thread_local!(static SLEEPER: RefCell<Option<Sleeper>> = const { RefCell::new(None) });
    let slept = Arc::new(AtomicU32::new(0));
    crore::run(|| {
        let theirs = Arc::clone(&slept);
        let one = own(move || {
            SLEEPER.set(Some(Sleeper(theirs)));
            crore::park();
        });
        crore::yield_now();
        one.cancel();
        assert!(one.join().unwrap_err().is_cancelled());
        assert_eq!(slept.load(Ordering::Relaxed), 1);
    })
    .unwrap();
}

#[test]
fn one_may_park_while_it_unwinds_and_nobody_else_panics() {
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            for _ in 0..10 {
                crore::yield_now();
                assert!(std::thread::panicking());
            }
        }
    }
    crore::run(|| {
        let unwinding: Vec<_> = (0..10usize)
            .map(|i| {
                own(move || {
                    let _waits = Waits;
                    std::panic::resume_unwind(Box::new(i));
                })
            })
            .collect();
        let real = own(|| {
            let caught = std::panic::catch_unwind(|| {
                let _waits = Waits;
                panic!("counted");
            });
            assert!(caught.is_err());
            assert!(!std::thread::panicking());
        });
        for _ in 0..20 {
            assert!(!std::thread::panicking());
            crore::yield_now();
        }
        real.join().unwrap();
        for (i, one) in unwinding.into_iter().enumerate() {
            let payload = one.join().unwrap_err().try_into_panic().unwrap();
            assert_eq!(*payload.downcast::<usize>().unwrap(), i);
        }
    })
    .unwrap();
}

#[test]
fn a_stack_changes_between_the_kinds() {
    crore::run(|| {
        for round in 0..50 {
            let yes = round % 3 == 0;
            let one = Builder::new().own_thread_locals(yes).spawn(move || {
                let seen = NUMBER.replace(round);
                crore::yield_now();
                assert_eq!(NUMBER.get(), round);
                assert!(round % 5 != 4, "some panic");
                seen
            });
            let result = one.unwrap().join();
            assert_eq!(result.is_err(), round % 5 == 4);
            if yes {
                assert_eq!(result.unwrap_or(0), 0);
            }
        }
    })
    .unwrap();
}

#[test]
fn the_runtime_says_who_has_them() {
    let runtime = crore::Runtime::builder()
        .own_thread_locals(true)
        .build()
        .unwrap();
    runtime
        .run(|| {
            NUMBER.set(3);
            let number = || NUMBER.get();
            assert_eq!(crore::spawn(number).join().unwrap(), 0);
            assert_eq!(runtime.handle().spawn(number).join().unwrap(), 0);
            crore::scope(|scope| assert_eq!(scope.spawn(number).join().unwrap(), 0));
            assert_eq!(crore::spawn_local(number).join().unwrap(), 3);
            // SAFETY: no reference to its frames.
            assert_eq!(unsafe { crore::spawn_shared(number) }.join().unwrap(), 3);
            assert_eq!(
                crore::spawn_future(async { NUMBER.get() }).join().unwrap(),
                3
            );
            let not = Builder::new().own_thread_locals(false).spawn(number);
            assert_eq!(not.unwrap().join().unwrap(), 3);
        })
        .unwrap();
}

#[test]
fn what_is_not_send_stays_where_it_is() {
    fn refused<T>(spawned: io::Result<T>) {
        let error = spawned.err().expect("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("Send"), "{error}");
    }
    crore::run(|| {
        refused(Builder::new().own_thread_locals(true).spawn_local(|| ()));
        // SAFETY: no reference to its frames; refused anyway.
        refused(unsafe { Builder::new().own_thread_locals(true).spawn_shared(|| ()) });
        own(|| {
            refused(Builder::new().spawn_local(|| ()));
            refused(Builder::new().spawn_future_local(async {}));
            // SAFETY: as above.
            refused(unsafe { Builder::new().spawn_shared(|| ()) });
            crore::scope(|scope| refused(Builder::new().spawn_local_scoped(scope, || ())));
            // A plain one has the thread's.
            assert_eq!(crore::spawn(|| NUMBER.replace(6)).join().unwrap(), 0);
            assert_eq!(NUMBER.get(), 0);
        })
        .join()
        .unwrap();
        assert_eq!(NUMBER.get(), 6);
    })
    .unwrap();
}

#[test]
fn scoped_ones_borrow() {
    crore::run(|| {
        let sum = AtomicUsize::new(0);
        crore::scope(|scope| {
            for i in 0..10 {
                let sum = &sum;
                let builder = Builder::new().own_thread_locals(true);
                let spawned = builder.spawn_scoped(scope, move || {
                    NUMBER.set(1);
                    crore::yield_now();
                    sum.fetch_add(i, Ordering::Relaxed);
                });
                spawned.unwrap();
            }
        });
        assert_eq!(sum.into_inner(), 45);
    })
    .unwrap();
}

#[test]
fn several_workers_run_them() {
    let runtime = crore::Runtime::builder()
        .workers(3)
        .own_thread_locals(true)
        .build()
        .unwrap();
    runtime
        .run(|| {
            let all: Vec<_> = (0..3000u32)
                .map(|i| {
                    crore::spawn(move || {
                        assert_eq!(NUMBER.replace(i + 1), 0);
                        let text = format!("{i}");
                        for _ in 0..3 {
                            crore::yield_now();
                            assert_eq!(NUMBER.get(), i + 1);
                        }
                        text
                    })
                })
                .collect();
            for (i, one) in all.into_iter().enumerate() {
                assert_eq!(one.join().unwrap(), i.to_string());
            }
        })
        .unwrap();
}

#[test]
fn coroutine_locals_are_what_they_were() {
    crore::coroutine_local!(static LOCAL: Cell<u32> = const { Cell::new(1) });
    crore::run(|| {
        LOCAL.with(|local| local.set(2));
        own(|| LOCAL.with(|local| assert_eq!(local.get(), 1)))
            .join()
            .unwrap();
        LOCAL.with(|local| assert_eq!(local.get(), 2));
    })
    .unwrap();
}
