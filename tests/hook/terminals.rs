//! Reads of terminals: with lines, and with `VMIN` and `VTIME`.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use crate::hook_common::{code, in_coroutines, same};
use crate::rooms::{pty, raw};

/// So long that no machine is late, in tenths of seconds.
const LONG: u8 = 200;

/// A raw pseudoterminal.
fn ways(least: u8, time: u8) -> [File; 2] {
    pty(|ways| {
        raw(ways);
        ways.c_cc[libc::VMIN] = least;
        ways.c_cc[libc::VTIME] = time;
    })
}

/// `VMIN`, `VTIME`, room, what is there, and what comes while it is waited for.
type Wait = (u8, u8, usize, &'static str, &'static str);

/// A read of each kind: those that end at once, those that end by time, and those that
/// end by what another coroutine sends, which a stopped worker would not let run.
const WAITS: [Wait; 15] = [
    (0, 0, 8, "", ""),
    (0, 0, 8, "abc", ""),
    (0, 2, 8, "", ""),
    (0, 2, 8, "abc", ""),
    (0, LONG, 8, "", "a"),
    (1, 0, 8, "", "ab"),
    (4, 0, 8, "abcde", ""),
    (4, 0, 8, "abc", "d"),
    (4, 0, 8, "", "abcdef"),
    (4, 0, 2, "ab", ""),
    (4, 0, 2, "a", "b"),
    (4, 2, 8, "a", ""),
    (4, LONG, 8, "a", "bcd"),
    (4, LONG, 8, "", "abcdefgh"),
    (4, LONG, 2, "a", "b"),
];

#[test]
fn raw_terminals() {
    same(|on| {
        let read = |wait: Wait| {
            let (least, time, room, there, comes) = wait;
            let [mut master, mut other] = ways(least, time);
            master.write_all(there.as_bytes()).unwrap();
            let reader = on.go(move || {
                let mut buffer = vec![0; room];
                let got = code(other.read(&mut buffer));
                (got, buffer, other)
            });
            // It waits by now, or will find all of it.
            crore::sleep(Duration::from_millis(20));
            master.write_all(comes.as_bytes()).unwrap();
            let (got, buffer, mut other) = reader.join();
            // A second read finds what is left, or ends by time.
            let left = (time < LONG && least == 0).then(|| code(other.read(&mut [0; 8])));
            (wait, got, buffer, left)
        };
        WAITS.map(read)
    });
}

#[test]
fn lines_of_a_terminal() {
    same(|on| {
        let [mut master, mut other] = pty(|ways| ways.c_lflag &= !libc::ECHO);
        let reader = on.go(move || {
            let mut lines = Vec::new();
            let mut buffer = [0; 64];
            for _ in 0..4 {
                let got = code(other.read(&mut buffer));
                lines.push(got.map(|some| buffer[..some].to_vec()));
            }
            (lines, other)
        });
        crore::sleep(Duration::from_millis(5));
        // The last is the end of the file, in the middle of a line and alone.
        for part in ["one\ntw", "o\nthr", "ee\x04", "\x04"] {
            master.write_all(part.as_bytes()).unwrap();
        }
        reader.join().0
    });
}

#[test]
fn a_hang_up_ends_reads() {
    same(|on| {
        let all = [
            ways(4, 0),
            ways(0, LONG),
            ways(4, LONG),
            ways(1, 0),
            pty(|_| ()),
        ];
        all.map(|[master, mut other]| {
            let reader = on.go(move || {
                let first = code(other.read(&mut [0; 8]));
                (first, code(other.read(&mut [0; 8])))
            });
            crore::sleep(Duration::from_millis(20));
            drop(master);
            // Who waits is told of it, unless the end comes first.
            let (first, second) = reader.join();
            (first == Ok(0) || first == Err(libc::EIO), second)
        })
    });
}

#[test]
fn a_read_of_a_raw_terminal_can_be_cancelled() {
    in_coroutines(|_| {
        for [_master, mut other] in [ways(4, 0), ways(0, LONG), ways(4, LONG)] {
            let reader = crore::spawn(move || code(other.read(&mut [0; 2])));
            crore::sleep(Duration::from_millis(5));
            reader.cancel();
            assert_eq!(reader.join().unwrap(), Err(libc::ECANCELED));
        }
    });
}
