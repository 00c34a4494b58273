//! A `Dump` as JSON.

use std::fmt::Write;

use crate::runtime::info::{Awaited, CoroutineInfo};
use crate::runtime::join_handle::CoroutineId;
use crate::runtime::listing::Dump;

impl Dump {
    /// The dump as JSON, on one line: an object with `hints`, an array of strings;
    /// `coroutines`, an array of objects with `id`, `name` (or null), `state`,
    /// `spawned_at`, `cancelled`, `shared`, `frame_bytes`, `parked_seconds` (or null), `awaits` (objects with
    /// `read`, `write` or `exception` and a descriptor, `seconds`, `lock` with the id of its
    /// holder or null, `end` with that of whom it joins, `receive` with a number of senders,
    /// `send` with one of receivers, `permits` and `free`, or `notification`, true), and `stack` (or null),
    /// which is an index into `stacks`: arrays of strings, a line of the backtrace each.
    ///
    /// ```
    /// crore::run(|| {
    ///     let json = crore::Handle::current().unwrap().dump().to_json();
    ///     assert!(json.contains(r#""name":"main","state":"parked""#), "{json}");
    /// }).unwrap();
    /// ```
    pub fn to_json(&self) -> String {
        let (mut coroutines, mut stacks) = (Vec::new(), Vec::new());
        for group in self.groups() {
            let stack = group.members()[0].backtrace().map(|trace| {
                let text = trace.to_string();
                stacks.push(array(text.lines().map(|line| quoted(line.trim()))));
                stacks.len() - 1
            });
            coroutines.extend(group.members().iter().map(|one| object(one, stack)));
        }
        format!(
            r#"{{"hints":{},"coroutines":{},"stacks":{}}}"#,
            array(self.hints().map(quoted)),
            array(coroutines),
            array(stacks)
        )
    }
}

fn object(one: &CoroutineInfo, stack: Option<usize>) -> String {
    let null = || "null".to_owned();
    let parked = one.parked_for().map(|time| time.as_secs_f64().to_string());
    format!(
        r#"{{"id":{},"name":{},"state":{},"spawned_at":{},"cancelled":{},"shared":{},"frame_bytes":{},"parked_seconds":{},"awaits":{},"stack":{}}}"#,
        quoted(&one.id().to_string()),
        one.name().map_or_else(null, quoted),
        quoted(&one.state().to_string()),
        quoted(&one.spawned_at().to_string()),
        one.is_cancelled(),
        one.is_shared(),
        one.frame_bytes(),
        parked.unwrap_or_else(null),
        array(one.awaits().map(awaited)),
        stack.map_or_else(null, |stack| stack.to_string()),
    )
}

fn awaited(what: Awaited) -> String {
    match what {
        Awaited::Readable(fd) => format!(r#"{{"read":{fd}}}"#),
        Awaited::Writable(fd) => format!(r#"{{"write":{fd}}}"#),
        Awaited::Exception(fd) => format!(r#"{{"exception":{fd}}}"#),
        Awaited::Lock(by) => format!(r#"{{"lock":{}}}"#, id(by)),
        Awaited::Receive { senders } => format!(r#"{{"receive":{senders}}}"#),
        Awaited::Send { receivers } => format!(r#"{{"send":{receivers}}}"#),
        Awaited::Permits { wanted, free } => format!(r#"{{"permits":{wanted},"free":{free}}}"#),
        Awaited::Notification => r#"{"notification":true}"#.into(),
        Awaited::End(of) => format!(r#"{{"end":{}}}"#, id(of)),
        Awaited::Time(at) => {
            let left = at.saturating_duration_since(std::time::Instant::now());
            format!(r#"{{"seconds":{}}}"#, left.as_secs_f64())
        }
    }
}

fn id(id: Option<CoroutineId>) -> String {
    id.map_or_else(|| "null".into(), |id| quoted(&id.to_string()))
}

fn array(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<_> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => {
                // A string takes all.
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn what_json_does_not_take_is_escaped() {
        assert_eq!(quoted("a\"b\\c\nd\u{1}é"), r#""a\"b\\c\u000ad\u0001é""#);
    }
}
