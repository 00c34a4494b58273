#![doc = include_str!("../README.md")]

mod event;
mod names;
mod rows;

use std::io::{self, BufWriter, Write};

use crore::Timeline;
use serde::ser::{SerializeSeq, Serializer};

use event::Event;
use rows::Rows;

/// Writes the timeline as an array of Chrome's trace events, one after the other, so that
/// what it takes beside the timeline is a few words for each coroutine.
///
/// # Errors
///
/// What `to` says.
///
/// ```
/// let timeline = crore::run(|| {
///     let recording = crore::Handle::current().unwrap().record(100).unwrap();
///     crore::yield_now();
///     recording.finish()
/// })?;
/// let mut json = Vec::new();
/// crore_timeline::write(&timeline, &mut json)?;
/// assert!(json.starts_with(b"[{"));
/// # std::io::Result::Ok(())
/// ```
pub fn write(timeline: &Timeline, to: impl Write) -> io::Result<()> {
    let mut to = BufWriter::new(to);
    let mut json = serde_json::Serializer::new(&mut to);
    let mut array = json.serialize_seq(None)?;
    let mut rows = Rows::of(timeline);
    let mut add = |event: Event<'_>| array.serialize_element(&event);
    rows.head(&mut add)?;
    for step in timeline.steps() {
        rows.step(step, &mut add)?;
    }
    rows.end(&mut add)?;
    array.end()?;
    to.flush()
}
