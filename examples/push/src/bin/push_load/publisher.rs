//! A publisher: one message after the other, each until it is acknowledged, by whatever
//! node.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Load;
use crate::client::{Client, parse};

pub fn run(load: &Load, channel: usize) {
    let name = format!("c{channel}");
    // Its messages' keys are no other load's.
    let load_name = format!("{}-{channel}", std::process::id());
    let text = "x".repeat(load.options.size);
    let pause = match load.options.rate {
        rate if rate > 0.0 => Duration::from_secs_f64(1.0 / rate),
        _ => Duration::ZERO,
    };
    let (mut turn, mut number) = (channel, 0);
    let mut client = Client::connect(load, &mut turn);
    load.ready.fetch_add(1, Ordering::Relaxed);
    while !load.publish.load(Ordering::Relaxed) {
        crore::sleep(Duration::from_millis(1));
    }
    // Not all at the same moment.
    crore::sleep(pause.mul_f64(channel as f64 / load.options.channels as f64));
    let mut next = Instant::now();
    while !load.stop.load(Ordering::Relaxed) {
        number += 1;
        let at = load.begun.elapsed().as_nanos() as u64;
        let request = json!({
            "type": "publish",
            "id": number,
            "channel": name,
            "key": format!("{load_name}-{number}"),
            "data": {"n": number, "at": at, "text": text},
        });
        let request = request.to_string();
        let offset = loop {
            let Some(connected) = &mut client else { return };
            match publish(load, connected, &request) {
                Ok(offset) => break offset,
                Err(why) if load.options.to.len() == 1 => {
                    load.fault(format!("publisher {channel}: {why}"));
                    return;
                }
                Err(_) => {
                    load.reconnects.fetch_add(1, Ordering::Relaxed);
                    turn += 1;
                    client = Client::connect(load, &mut turn);
                }
            }
        };
        load.published.fetch_add(1, Ordering::Relaxed);
        load.acknowledged[channel].store(offset, Ordering::Relaxed);
        next += pause;
        crore::sleep_until(next);
    }
}

/// The message's place.
fn publish(load: &Load, client: &mut Client, request: &str) -> Result<u64, String> {
    client.send(request.to_owned())?;
    loop {
        let text = client.read()?;
        let answer = parse(load, &text).ok_or("not JSON")?;
        match (answer.r#type, answer.offset) {
            ("published", Some(offset)) => return Ok(offset),
            ("error", _) => {
                let reason = answer.reason.unwrap_or("?");
                if load.options.to.len() > 1 {
                    // The bus may be back soon.
                    crore::sleep(Duration::from_millis(100));
                }
                return Err(reason.to_owned());
            }
            _ => {}
        }
    }
}
