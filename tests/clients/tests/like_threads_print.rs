//! `println!` into a pipe that nobody reads: std holds a lock over the write,
//! and knows its holder by the thread's id. The coroutine that writes parks
//! with it, others wait for the lock, and all that do not print go on.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crore_clients::{like_threads, spread_crowd};

const LINES: usize = 10_000;

/// Set in the process that prints: how many workers it has.
const PRINTER: &str = "CRORE_CLIENTS_PRINTER";

/// Says that all have begun to print.
const STALLED: &str = "the pipe is full, and this coroutine runs";

/// Much more than a pipe holds, all lines together.
fn line(i: usize) -> String {
    format!("line {i} {} end {i}", i.to_string().repeat(20))
}

/// Runs this program again for one test of it, and reads nothing that it
/// prints before it says that all coroutines are at it.
fn every_line_arrives_whole(test: &str, workers: usize) {
    if let Ok(workers) = env::var(PRINTER) {
        return print(workers.parse().unwrap());
    }
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(PRINTER, workers.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut words = String::new();
    while !words.contains(STALLED) {
        assert_ne!(told.read_line(&mut words).unwrap(), 0, "it ended: {words}");
    }
    let mut printed = String::new();
    let mut output = child.stdout.take().unwrap();
    output.read_to_string(&mut printed).unwrap();
    told.read_to_string(&mut words).unwrap();
    assert!(child.wait().unwrap().success(), "{words}");

    // The test's own frame prints, too.
    let mut lines: Vec<_> = printed
        .lines()
        .filter(|it| it.starts_with("line"))
        .collect();
    let mut expected: Vec<_> = (0..LINES).map(line).collect();
    lines.sort_unstable();
    expected.sort_unstable();
    assert!(lines == expected, "{} lines of {LINES}", lines.len());
}

fn print(workers: usize) {
    // After what the test's frame has begun to print.
    println!();
    like_threads(workers, || {
        let begun = Arc::new(AtomicUsize::new(0));
        let all = Arc::clone(&begun);
        let other = crore::spawn(move || {
            while all.load(Ordering::Relaxed) < LINES {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            eprintln!("{STALLED}");
        });
        spread_crowd(LINES, move |i| {
            begun.fetch_add(1, Ordering::Relaxed);
            if i % 10 == 0 {
                // The lock, twice, over a wait of the coroutine's.
                let mut out = io::stdout().lock();
                let (start, end) = (line(i), format!(" end {i}"));
                write!(out, "{}", start.strip_suffix(&end).unwrap()).unwrap();
                crore::yield_now();
                println!("{end}");
                out.flush().unwrap();
            } else {
                println!("{}", line(i));
            }
        });
        other.join().unwrap();
    });
}

#[test]
fn lines_into_a_full_pipe_from_one_thread() {
    every_line_arrives_whole("lines_into_a_full_pipe_from_one_thread", 1);
}

#[test]
fn lines_into_a_full_pipe_from_several() {
    every_line_arrives_whole("lines_into_a_full_pipe_from_several", 3);
}
