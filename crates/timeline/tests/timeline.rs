//! The promise: a timeline says who ran when, parked for what, and was woken by whom.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crore::{Awaited, Builder, CoroutineId, Handle, JoinHandle, Runtime, StepWhat, Timeline};
use serde_json::Value;

fn recorded(workers: usize, body: impl FnOnce() + Send) -> Timeline {
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    let run = || {
        let recording = Handle::current().unwrap().record(1 << 21).unwrap();
        body();
        recording.finish()
    };
    runtime.run(run).unwrap()
}

fn named(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    Builder::new().name(name.into()).spawn(body).unwrap()
}

/// What happened to the one of this name, and its id.
fn of<'a>(timeline: &'a Timeline, name: &str) -> (CoroutineId, Vec<&'a StepWhat>) {
    let is_its = |what: &StepWhat| matches!(what, StepWhat::Spawned { name: Some(known), .. } if &**known == name);
    let mut steps = timeline.steps().iter();
    let id = steps.find(|step| is_its(&step.what)).unwrap().id;
    let steps = timeline.steps().iter().filter(|step| step.id == id);
    (id, steps.map(|step| &step.what).collect())
}

fn waits(steps: &[&StepWhat]) -> Vec<Option<Awaited>> {
    let waits = steps.iter().filter_map(|what| match what {
        StepWhat::Parked(wait) => Some(*wait),
        _ => None,
    });
    waits.collect()
}

/// One that is parked, and another that wakes it.
fn park_and_wake() -> Timeline {
    recorded(1, || {
        let parks = named("parks", crore::park);
        crore::yield_now();
        let other = parks.coroutine().clone();
        named("wakes", move || other.unpark()).join().unwrap();
        parks.join().unwrap();
    })
}

#[test]
fn a_park_and_a_wake_are_four_steps() {
    let timeline = park_and_wake();
    assert_eq!(timeline.lost(), 0);
    let (waker, _) = of(&timeline, "wakes");
    let (_, steps) = of(&timeline, "parks");
    let [
        StepWhat::Spawned {
            place, by: Some(_), ..
        },
        StepWhat::Resumed,
        StepWhat::Parked(None),
        StepWhat::Woken { by: Some(by) },
        StepWhat::Resumed,
        StepWhat::Ended,
    ] = steps[..]
    else {
        panic!("{steps:?}");
    };
    assert_eq!((place.file(), *by), (file!(), waker));
    let all = timeline.steps();
    assert!(all.windows(2).all(|two| two[0].at <= two[1].at));
}

#[test]
fn what_is_waited_for_is_said() {
    let timeline = recorded(1, || {
        let lock = Arc::new(crore::sync::Mutex::new(()));
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let guard = lock.lock().unwrap();
        let theirs = Arc::clone(&lock);
        let locks = named("locks", move || drop(theirs.lock().unwrap()));
        let reads = named("reads", move || there.read_exact(&mut [0]).unwrap());
        let sleeps = named("sleeps", || crore::sleep(Duration::from_millis(1)));
        let (tx, rx) = crore::sync::channel::bounded::<()>(1);
        let receives = named("receives", move || assert!(rx.recv().is_err()));
        let joins = named("joins", move || sleeps.join().unwrap());
        crore::yield_now();
        crore::yield_now();
        drop(guard);
        here.write_all(&[1]).unwrap();
        drop(tx);
        let all = [locks, reads, receives, joins];
        all.into_iter().for_each(|one| one.join().unwrap());
    });
    let waits = |name: &str| waits(&of(&timeline, name).1);
    assert!(matches!(waits("locks")[..], [Some(Awaited::Lock(_))]));
    if crore::hook::enabled() {
        assert!(matches!(waits("reads")[..], [Some(Awaited::Readable(_))]));
    }
    assert!(matches!(waits("sleeps")[..], [Some(Awaited::Time(_)), ..]));
    let received = waits("receives");
    assert!(
        matches!(received[..], [Some(Awaited::Receive { senders: 1 })]),
        "{received:?}"
    );
    assert!(matches!(waits("joins")[..], [Some(Awaited::End(_))]));
    // By the kernel's events, and by the one that let go.
    let by = |name: &str| {
        let steps = of(&timeline, name).1;
        let by = steps.into_iter().find_map(|what| match what {
            StepWhat::Woken { by } => Some(*by),
            _ => None,
        });
        by.unwrap()
    };
    assert!(by("locks").is_some() && by("reads").is_none() && by("sleeps").is_none());
}

/// A coroutine of another worker's.
#[test]
fn a_wake_across_workers_has_its_waker() {
    let timeline = recorded(2, || {
        let here = crore::current();
        let on = |worker, name: &str| Builder::new().worker(worker).name(name.into());
        let (tx, rx) = crore::sync::oneshot::channel();
        let parks = on(1, "parks").spawn(move || {
            tx.send(()).unwrap();
            crore::park();
        });
        let (parks, _) = (parks.unwrap(), here);
        rx.recv().unwrap();
        let other = parks.coroutine().clone();
        on(0, "wakes")
            .spawn(move || other.unpark())
            .unwrap()
            .join()
            .unwrap();
        parks.join().unwrap();
    });
    let (waker, _) = of(&timeline, "wakes");
    let (_, steps) = of(&timeline, "parks");
    // Unless it had not parked yet.
    let parked = steps.iter().any(|what| matches!(what, StepWhat::Parked(_)));
    let is_its =
        |what: &&StepWhat| matches!(what, StepWhat::Woken { by: Some(by) } if *by == waker);
    assert!(!parked || steps.iter().any(is_its), "{steps:?}");
}

#[test]
fn only_one_records_and_what_there_is_no_room_for_is_counted() {
    let runtime = Runtime::builder().build().unwrap();
    let timeline = runtime
        .run(|| {
            let handle = Handle::current().unwrap();
            let first = handle.record(10).unwrap();
            assert!(handle.record(10).is_none());
            (0..10).for_each(|_| crore::yield_now());
            let timeline = first.finish();
            drop(handle.record(10).unwrap());
            assert!(handle.record(10).is_some());
            timeline
        })
        .unwrap();
    assert_eq!((timeline.steps().len(), timeline.lost()), (10, 10));
}

fn json(timeline: &Timeline) -> Vec<Value> {
    let mut text = Vec::new();
    crore_timeline::write(timeline, &mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn chromes_events_have_slices_and_arrows() {
    let timeline = park_and_wake();
    let events = json(&timeline);
    let slices: Vec<_> = events
        .iter()
        .filter(|event| event["name"] == "parks")
        .collect();
    assert_eq!(slices.len(), 2, "{slices:?}");
    assert!(
        slices
            .iter()
            .all(|slice| slice["ph"] == "X" && slice["dur"].is_number())
    );
    assert_eq!(slices[0]["args"]["then"], "parked");
    assert_eq!(slices[1]["args"]["then"], "ended");
    let by = slices[1]["args"]["woken_by"].as_str().unwrap();
    assert!(by.starts_with("wakes ("), "{by}");
    // Each arrow begins in one slice and ends where another does.
    let arrows = |phase: &str| {
        let arrows = events.iter().filter(|event| event["ph"] == phase);
        let ids: Vec<_> = arrows.map(|event| event["id"].as_u64().unwrap()).collect();
        ids
    };
    assert!(!arrows("f").is_empty());
    assert!(arrows("f").iter().all(|id| arrows("s").contains(id)));
    let end = slices[1]["ts"].as_f64().unwrap();
    assert!(
        events
            .iter()
            .any(|event| event["ph"] == "f" && event["ts"] == end)
    );
}

/// Six steps each: spawned, resumed, parked, woken, resumed, ended.
#[test]
fn a_hundred_thousand_have_so_many_steps() {
    const MANY: usize = 100_000;
    let timeline = recorded(1, || {
        let all: Vec<_> = (0..MANY)
            .map(|_| Builder::new().stack_size(1).spawn(crore::park).unwrap())
            .collect();
        crore::yield_now();
        all.iter().for_each(|one| one.coroutine().unpark());
        all.into_iter().for_each(|one| one.join().unwrap());
    });
    let mut steps = std::collections::HashMap::<_, usize>::new();
    for step in timeline.steps() {
        *steps.entry(step.id).or_default() += 1;
    }
    assert_eq!(timeline.lost(), 0);
    assert_eq!(steps.values().filter(|&&count| count == 6).count(), MANY);
    let slices = json(&timeline)
        .iter()
        .filter(|event| event["ph"] == "X")
        .count();
    assert!(slices >= 2 * MANY, "{slices}");
}

/// The slice that docs/INSIDE.md shows, of the example's program.
#[test]
fn the_page_shows_a_slice_as_it_is() {
    let page = include_str!("../../../docs/INSIDE.md");
    let shown = page
        .lines()
        .find(|line| line.starts_with("{\"name\":\"server\""))
        .unwrap();
    let shown: Value = serde_json::from_str(shown).unwrap();
    let timeline = recorded(1, || {
        let (here, mut there) = UnixStream::pair().unwrap();
        let server = named("server", move || {
            assert_eq!(there.read(&mut [0]).unwrap(), 0);
        });
        crore::yield_now();
        drop(here);
        server.join().unwrap();
    });
    let events = json(&timeline);
    let slice = events
        .iter()
        .find(|event| event["name"] == "server")
        .unwrap();
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (keys(slice), keys(&slice["args"])),
        (keys(&shown), keys(&shown["args"]))
    );
    let parked = |slice: &Value| {
        let then = slice["args"]["then"].as_str().unwrap();
        then.trim_end_matches(char::is_numeric).to_owned()
    };
    assert_eq!(parked(slice), parked(&shown));
}
