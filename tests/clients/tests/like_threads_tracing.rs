//! `tracing`: the span that a coroutine is in is its own, whoever runs while
//! it waits. The registry keeps that by thread, and gives each thread a number
//! of which there are 4 096.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crore_clients::{each, like_threads, listen, spread_crowd};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

const CROWD: usize = 200;

fn on_one_and_on_three(test: fn()) {
    like_threads(1, test);
    like_threads(3, test);
}

/// The field `n` of a span or of an event.
#[derive(Default)]
struct Number(Option<u64>);

impl Visit for Number {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "n" {
            self.0 = Some(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// Writes each event down with its spans, from the outermost on: `2>2:2`.
#[derive(Clone, Default)]
struct Scribe(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Scribe {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut number = Number::default();
        attributes.record(&mut number);
        let span = context.span(id).expect("it was made just now");
        span.extensions_mut().insert(number);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut number = Number::default();
        event.record(&mut number);
        // Of tracing in other crates there are events, too.
        let Some(own) = number.0 else { return };
        let mut line = String::new();
        let spans = context.event_scope(event).into_iter();
        for span in spans.flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let number = extensions.get::<Number>().and_then(|number| number.0);
            write!(line, "{}>", number.expect("each span has one")).unwrap();
        }
        write!(line, "{own}").unwrap();
        self.0.lock().unwrap().push(line);
    }
}

/// Answers each connection's one byte after a moment.
fn slow_server(clients: usize) -> (std::net::SocketAddr, crore::JoinHandle<()>) {
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let server = crore::spawn(move || {
        for _ in 0..clients {
            let (mut stream, _) = listener.accept().unwrap();
            crore::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() {
                    thread::sleep(Duration::from_millis(2));
                    stream.write_all(&byte).unwrap();
                }
            });
        }
    });
    (address, server)
}

/// Spans around I/O and within each other. With `quiet` others tell of nothing.
fn work(server: std::net::SocketAddr, i: usize) {
    let n = i as u64;
    let _request = info_span!("request", n).entered();
    let mut stream = std::net::TcpStream::connect(server).unwrap();
    let mut ask = || {
        stream.write_all(b"?").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    };
    ask();
    info!(n);
    info_span!("inner", n).in_scope(|| {
        ask();
        info!(n);
    });
    ask();
    info!(n);
}

fn written_by(i: usize) -> [String; 3] {
    [
        format!("{i}>{i}"),
        format!("{i}>{i}>{i}"),
        format!("{i}>{i}"),
    ]
}

/// One subscriber for all of a runtime's coroutines.
#[test]
fn spans_are_each_coroutines_own() {
    on_one_and_on_three(|| {
        let scribe = Scribe::default();
        let subscriber = tracing_subscriber::registry().with(scribe.clone());
        let dispatch = tracing::Dispatch::new(subscriber);
        let (server, serving) = slow_server(CROWD);
        spread_crowd(CROWD, move |i| {
            tracing::dispatcher::with_default(&dispatch, || work(server, i));
        });
        let mut lines = scribe.0.lock().unwrap().clone();
        let mut expected: Vec<_> = (0..CROWD).flat_map(written_by).collect();
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected);
        serving.join().unwrap();
    });
}

/// The default subscriber is a thread's, so here it is a coroutine's.
#[test]
fn subscribers_are_each_coroutines_own() {
    on_one_and_on_three(|| {
        let (server, serving) = slow_server(CROWD);
        let (lines, _) = spread_crowd(CROWD, move |i| {
            let scribe = Scribe::default();
            let subscriber = tracing_subscriber::registry().with(scribe.clone());
            tracing::subscriber::with_default(subscriber, || work(server, i));
            scribe.0.lock().unwrap().clone()
        });
        each(&lines, |i| written_by(i).to_vec());
        serving.join().unwrap();
    });
}

/// A number is given back when a coroutine ends: more of them, one crowd after
/// the other, than there are numbers.
#[test]
fn the_registry_does_not_run_out_of_threads() {
    const MANY: usize = 1000;
    like_threads(1, || {
        let scribe = Scribe::default();
        let subscriber = tracing_subscriber::registry().with(scribe.clone());
        let dispatch = tracing::Dispatch::new(subscriber);
        for _ in 0..6 {
            let dispatch = dispatch.clone();
            spread_crowd(MANY, move |i| {
                tracing::dispatcher::with_default(&dispatch, || {
                    let n = i as u64;
                    let _span = info_span!("short", n).entered();
                    crore::yield_now();
                    info!(n);
                });
            });
            let mut lines = std::mem::take(&mut *scribe.0.lock().unwrap());
            let mut expected: Vec<_> = (0..MANY).map(|i| format!("{i}>{i}")).collect();
            lines.sort_unstable();
            expected.sort_unstable();
            assert_eq!(lines, expected);
        }
    });
}
