//! A subscriber: every message has to be the next, by its place in the channel and by
//! its publisher's number.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, parse};
use crate::{Load, Seen};

/// What publishers send.
#[derive(Deserialize)]
struct Data {
    /// Counted by the channel's one publisher.
    n: u64,
    /// When, since the load began.
    at: u64,
}

/// Where it is.
#[derive(Default)]
struct State {
    seen: Seen,
    epoch: String,
    offset: u64,
    /// The publisher's number of the last message.
    number: u64,
    is_ready: bool,
}

pub fn run(load: &Load, number: usize) -> Seen {
    let channel = number % load.options.channels;
    let mut state = State::default();
    let mut turn = number;
    while !load.end.is_cancelled() {
        let Some(mut client) = Client::connect(load, &mut turn) else {
            break;
        };
        let result = load
            .end
            .bind(|| listen(load, &mut client, channel, number, &mut state));
        if !load.end.is_cancelled() {
            if load.options.to.len() == 1 {
                load.fault(format!("subscriber {number}: {}", result.unwrap_err()));
                break;
            }
            load.reconnects.fetch_add(1, Ordering::Relaxed);
            turn += 1;
        }
    }
    state.seen
}

fn listen(
    load: &Load,
    client: &mut Client,
    channel: usize,
    subscriber: usize,
    state: &mut State,
) -> Result<(), String> {
    let since = json!({"epoch": state.epoch, "offset": state.offset});
    let since = if state.is_ready { since } else { json!(null) };
    let channel = format!("c{channel}");
    let request = json!({"type": "subscribe", "id": 1, "channel": channel, "since": since});
    client.send(request.to_string())?;
    loop {
        let text = client.read()?;
        let Some(answer) = parse(load, &text) else {
            return Err("not JSON".into());
        };
        match (answer.r#type, answer.offset) {
            ("message", Some(offset)) => {
                let data = answer.data.map_or("", |data| data.get());
                let Ok(data) = serde_json::from_str::<Data>(data) else {
                    return Err(format!("not what was published: {text}"));
                };
                let took = load
                    .begun
                    .elapsed()
                    .saturating_sub(Duration::from_nanos(data.at));
                load.latency.add(took);
                load.deliveries.fetch_add(1, Ordering::Relaxed);
                state.take(load, offset, data.n);
                load.reached[subscriber].store(state.offset, Ordering::Relaxed);
            }
            ("subscribed", Some(offset)) => {
                if !state.is_ready {
                    state.offset = offset;
                    state.is_ready = true;
                    load.reached[subscriber].store(offset, Ordering::Relaxed);
                    load.ready.fetch_add(1, Ordering::Relaxed);
                } else if answer.recovered != Some(true) {
                    load.fault(format!("subscriber {subscriber} did not recover: {text}"));
                }
                state.epoch = answer.epoch.unwrap_or("").into();
            }
            ("lag", _) => state.seen.lost += answer.missed.unwrap_or(0),
            ("hello" | "goodbye", _) => {}
            ("error", _) if load.options.to.len() > 1 => {
                // The bus may be back soon.
                crore::sleep(Duration::from_millis(100));
                return Err(answer.reason.unwrap_or("?").into());
            }
            _ => {
                let why = answer.reason.unwrap_or(&text);
                load.fault(format!("subscriber {subscriber}: {why}"));
            }
        }
    }
}

impl State {
    fn take(&mut self, load: &Load, offset: u64, number: u64) {
        // The first message may be any: others published before it subscribed.
        let next = (
            self.offset + 1,
            if self.number == 0 {
                number
            } else {
                self.number + 1
            },
        );
        if (offset, number) != next {
            load.fault(format!("({offset}, {number}) instead of {next:?}"));
            if offset > next.0 || number > next.1 {
                self.seen.lost +=
                    (offset.saturating_sub(next.0)).max(number.saturating_sub(next.1));
            } else if number == self.number {
                self.seen.twice += 1;
            } else {
                self.seen.disordered += 1;
            }
        }
        self.offset = self.offset.max(offset);
        self.number = self.number.max(number);
    }
}
