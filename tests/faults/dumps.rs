//! The promise: a dump says in few words what all do, and names what looks wrong.

use std::thread;
use std::time::Duration;

use crate::common::kinds;
use crore::{Builder, Coroutine, CoroutineInfo, CoroutineState, Handle, Runtime};

fn dump() -> crore::Dump {
    Handle::current().unwrap().dump()
}

#[test]
fn those_that_do_the_same_are_one_paragraph() {
    crore::run(|| {
        let spawn = |i: usize| {
            let builder = Builder::new().name(format!("idler-{i}"));
            builder.spawn(crore::park).unwrap()
        };
        let parked: Vec<_> = (0..50).map(spawn).collect();
        let sleeper = crore::spawn(|| crore::sleep(Duration::from_secs(600)));
        crore::yield_now();
        let dump = dump();
        let text = dump.to_string();
        let first = "52 coroutines: 52 parked\n\n50 parked for ";
        assert!(text.starts_with(first), "{text}");
        let paragraphs: Vec<_> = text.split("\n\n").skip(1).collect();
        // The main coroutine, too, which waits for the answer.
        assert_eq!(paragraphs.len(), 3, "{text}");
        let parked_at = parked[0].coroutine().id();
        let named = format!("\n  'idler-0' {parked_at}, 'idler-1' ");
        assert!(paragraphs[0].contains(&named), "{text}");
        assert!(paragraphs[0].contains(" and 42 more\n"), "{text}");
        if cfg!(feature = "symbols") {
            assert_eq!(text.matches("crore::time::wait::park").count(), 1, "{text}");
            assert!(!text.contains("Worker::run"), "the worker's own: {text}");
        }
        assert!(text.contains(", for a time "), "{text}");
        assert_eq!(dump.hints().count(), 0);
        parked.iter().for_each(|one| one.coroutine().unpark());
        sleeper.cancel();
    })
    .unwrap();
}

/// Wherever the stacks of the workers themselves lie.
#[test]
fn those_that_do_the_same_on_several_workers_are_one_paragraph() {
    let runtime = Runtime::builder().workers(3).build().unwrap();
    let ran = runtime.run(|| {
        let spawn = |i: usize| Builder::new().worker(i % 3).spawn(crore::park).unwrap();
        let parked: Vec<_> = (0..30).map(spawn).collect();
        let waits = |one: &CoroutineInfo| one.state() == CoroutineState::Parked;
        while dump().iter().filter(|&one| waits(one)).count() <= parked.len() {
            crore::yield_now();
        }
        let text = dump().to_string();
        assert!(text.contains("\n\n30 parked for "), "{text}");
        if cfg!(feature = "symbols") {
            assert!(
                !text.contains("switch_and_link"),
                "the worker's own: {text}"
            );
        }
        parked.iter().for_each(|one| one.coroutine().unpark());
    });
    ran.unwrap();
}

#[test]
fn frames_are_measured_on_every_kind_of_stack() {
    fn deep(then: fn()) {
        let bytes = std::hint::black_box([1_u8; 10_000]);
        then();
        std::hint::black_box(bytes);
    }
    crore::run(|| {
        for kind in kinds() {
            let flat = kind.spawn(crore::park);
            let deep = kind.spawn(|| deep(crore::park));
            let of_a_future = crore::spawn_future(std::future::pending::<()>());
            crore::yield_now();
            let dump = dump();
            let bytes = |id| {
                dump.iter()
                    .find(|one| one.id() == id)
                    .unwrap()
                    .frame_bytes()
            };
            let (few, many) = (bytes(flat.coroutine().id()), bytes(deep.coroutine().id()));
            assert!(few > 0 && few <= 8_192, "{kind:?}: {few}");
            assert!(
                (few + 8_000..65_536).contains(&many),
                "{kind:?}: {few} {many}"
            );
            assert_eq!(bytes(of_a_future.coroutine().id()), 0);
            of_a_future.cancel();
            for one in [flat, deep] {
                one.coroutine().unpark();
                one.join().unwrap();
            }
        }
    })
    .unwrap();
}

#[cfg(feature = "hook")]
#[test]
fn json_has_each_coroutine_and_each_stack_once() {
    crore::run(|| {
        let reads = || {
            let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
            let body = move || std::io::Read::read(&mut reader, &mut [0]);
            let name = "the \"reader\"".to_owned();
            (Builder::new().name(name).spawn(body).unwrap(), writer)
        };
        let readers: Vec<_> = (0..3).map(|_| reads()).collect();
        crore::yield_now();
        let json = dump().to_json();
        let count = |text: &str| json.matches(text).count();
        assert!(
            json.starts_with(r#"{"hints":[],"coroutines":[{"id":"#),
            "{json}"
        );
        assert_eq!(count(r#""name":"the \"reader\"","state":"parked""#), 3);
        assert_eq!(count(r#""awaits":[{"read":"#), 3, "{json}");
        assert_eq!(count(r#""stack":0}"#), 3, "{json}");
        let (_, stacks) = json.split_once(r#""stacks":"#).unwrap();
        // The other is that of the main coroutine, which waits for the answer.
        assert_eq!(stacks.matches("],[").count(), 1, "{stacks}");
        for (reader, writer) in readers {
            drop(writer);
            assert_eq!(reader.join().unwrap().unwrap(), 0);
        }
    })
    .unwrap();
}

/// What `body` does, and what a thread sees of it that has its main coroutine.
fn seen(body: impl FnOnce(), look: impl FnOnce(&Handle, &Coroutine) + Send) {
    let runtime = Runtime::builder().build().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let handle = runtime.handle();
    thread::scope(|scope| {
        scope.spawn(move || look(&handle, &told.recv().unwrap()));
        let main = || {
            tell.send(crore::current()).unwrap();
            body();
        };
        runtime.run(main).unwrap();
    });
}

#[test]
fn it_is_said_when_nothing_can_wake_anybody() {
    let look = |handle: &Handle, main: &Coroutine| {
        // The worker may not have come to its wait yet.
        let hint = loop {
            if let Some(hint) = handle.dump().hints().next() {
                break hint.to_owned();
            }
            thread::yield_now();
        };
        assert!(hint.starts_with("all are parked"), "{hint}");
        assert!(handle.dump().to_string().contains(&hint));
        main.unpark();
    };
    seen(crore::park, look);
}

#[test]
fn it_is_not_said_while_one_sleeps() {
    let look = |handle: &Handle, main: &Coroutine| {
        while handle.dump().len() < 2 {
            thread::yield_now();
        }
        for _ in 0..20 {
            assert_eq!(handle.dump().hints().count(), 0);
        }
        main.unpark();
    };
    let body = || {
        crore::spawn(|| crore::sleep(Duration::from_secs(600)));
        crore::park();
    };
    seen(body, look);
}
