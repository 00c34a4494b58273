//! `crore top` in a terminal that the tests make.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::ptr;
use std::time::{Duration, Instant};

use crate::inside::Running;
use crate::{CRORE, said};

/// For a machine that does a hundred other things.
const PATIENCE: Duration = Duration::from_secs(90);

/// A terminal, what is on its screen, and the command that runs in it.
struct Terminal {
    master: File,
    child: Child,
    parser: vt100::Parser,
}

fn size(rows: u16, columns: u16) -> libc::winsize {
    libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Terminal {
    fn start(args: &[&str]) -> Self {
        let (rows, columns) = (24, 100);
        let (mut master, mut slave) = (-1, -1);
        // SAFETY: places for two numbers, and a size.
        let opened = unsafe {
            let (name, settings) = (ptr::null_mut(), ptr::null());
            libc::openpty(
                &mut master,
                &mut slave,
                name,
                settings,
                &size(rows, columns),
            )
        };
        assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: just opened, and ours.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let end = || Stdio::from(slave.try_clone().unwrap());
        let mut command = Command::new(CRORE);
        command.arg("top").args(args).env("TERM", "xterm");
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: two system calls: it leads a session, whose terminal this is.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        Self {
            master,
            child: command.spawn().unwrap(),
            parser: vt100::Parser::new(rows, columns, 0),
        }
    }

    /// Of a process, renewed often.
    fn of(process: &str) -> Self {
        Self::start(&["--every", "0.1", process])
    }

    /// Reads until the screen is so, or nobody writes any more.
    fn wait(&mut self, what: &str, so: impl Fn(&vt100::Screen) -> bool) {
        let begun = Instant::now();
        while !so(self.parser.screen()) {
            let screen = self.parser.screen().contents();
            assert!(begun.elapsed() < PATIENCE, "not {what}:\n{screen}");
            let mut poll = libc::pollfd {
                fd: self.master.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one place.
            if unsafe { libc::poll(&mut poll, 1, 100) } == 1 {
                let mut bytes = [0; 4096];
                // Fails once the other end is closed.
                let n = self.master.read(&mut bytes);
                let n = n.unwrap_or_else(|error| panic!("not {what}: {error}:\n{screen}"));
                self.parser.process(&bytes[..n]);
            }
        }
    }

    fn shows(&mut self, text: &str) {
        self.wait(text, |screen| screen.contents().contains(text));
    }

    fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        // SAFETY: a size.
        let set = unsafe {
            let size = size(rows, columns);
            libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size)
        };
        assert_eq!(set, 0);
        self.parser = vt100::Parser::new(rows, columns, 0);
    }

    /// It has left the terminal as it was, and ended.
    fn ends(mut self) -> ExitStatus {
        self.wait("left as it was", |screen| {
            !screen.alternate_screen() && !screen.hide_cursor()
        });
        self.child.wait().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const READERS: &str = r#"
import os, sys, threading
pipe = os.pipe()
threads = [threading.Thread(target=os.read, args=(pipe[0], 1)) for _ in range(20)]
for t in threads: t.start()
print("ready", flush=True)
sys.stdin.readline()
os.write(pipe[1], bytes(20))
for t in threads: t.join()
"#;

/// With the main thread, which reads its input.
const ALL: &str = "21        waits to read";

#[test]
fn it_shows_what_the_threads_of_a_program_wait_for() {
    let running = Running::start(READERS, None);
    let mut top = Terminal::of(&running.process());
    top.shows(ALL);
    top.shows("1         waits for another: park, select, lock of std");
    top.wait("a line for the worker", |screen| {
        let text = screen.contents();
        let line = text.lines().find(|line| line.starts_with("0      "));
        line.is_some_and(|line| line.contains(" %") && line.contains(" 22 "))
    });
    let head = format!("{} python3: ", running.process());
    top.shows(&head);
    // Halted, and on again.
    top.types(" ");
    top.shows("halted");
    top.types(" ");
    top.shows("q: leave");
    // From large to tiny and back.
    for (rows, columns) in [(60, 200), (3, 12), (1, 1), (2, 200), (24, 100)] {
        top.resize(rows, columns);
        if rows > 2 {
            let begin = head.chars().take(usize::from(columns)).collect::<String>();
            top.shows(begin.trim_end());
        }
    }
    top.shows(ALL);
    top.types("q");
    assert!(top.ends().success());
    running.end();
}

#[test]
fn it_goes_on_to_show_the_last_answer_when_the_program_has_ended() {
    let running = Running::start(READERS, None);
    let process = running.process();
    let mut top = Terminal::of(&process);
    top.shows(ALL);
    running.end();
    top.shows(&format!("process {process} has ended"));
    assert!(top.parser.screen().contents().contains("DOING"));
    top.types("\u{3}");
    assert!(top.ends().success());
}

#[test]
fn a_program_that_is_stopped_keeps_nobody_from_leaving() {
    let running = Running::start(READERS, None);
    let process: i32 = running.process().parse().unwrap();
    let mut top = Terminal::of(&running.process());
    top.shows(ALL);
    // SAFETY: no memory; a process of ours.
    unsafe { libc::kill(process, libc::SIGSTOP) };
    top.shows("no answer for ");
    // SAFETY: as above.
    unsafe { libc::kill(process, libc::SIGCONT) };
    top.wait("answers again", |screen| {
        !screen.contents().contains("no answer")
    });
    // SAFETY: as above.
    unsafe { libc::kill(process, libc::SIGSTOP) };
    top.shows("no answer for ");
    top.types("q");
    assert!(top.ends().success());
    // SAFETY: as above.
    unsafe { libc::kill(process, libc::SIGCONT) };
    running.end();
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let running = Running::start(READERS, None);
    let mut top = Terminal::of(&running.process());
    top.shows(ALL);
    assert!(top.parser.screen().alternate_screen());
    // SAFETY: no memory; the command's process.
    unsafe { libc::kill(top.child.id() as i32, libc::SIGTERM) };
    assert!(top.ends().success());
    running.end();
}

#[test]
fn without_a_terminal_it_says_so_and_prints_once() {
    let running = Running::start(READERS, None);
    let process = running.process();
    let mut command = Command::new(CRORE);
    let (code, text, error) = said(command.args(["top", &process]).stdin(Stdio::null()));
    assert_eq!((code, text.as_str()), (Some(125), ""));
    assert!(error.contains("in a terminal only"), "{error}");
    assert_eq!(error.lines().count(), 1);
    loop {
        let once = ["top", "--once", "--every", "0.1", &process];
        let (code, text, error) = said(Command::new(CRORE).args(once));
        assert_eq!((code, error.as_str()), (Some(0), ""));
        assert!(text.starts_with(&format!("{process} python3: ")), "{text}");
        // The last threads may not have come to their wait yet.
        if text.contains(ALL) {
            assert_eq!(shape(&text), shape(&shown("python3: ")), "{text}");
            break;
        }
    }
    running.end();
}

/// What docs/INSIDE.md shows that has these words in its first line.
fn shown(words: &str) -> String {
    let page = include_str!("../../../../docs/INSIDE.md");
    let mut blocks = page.split("\n```text\n").skip(1);
    let first = |block: &&str| {
        block
            .lines()
            .next()
            .is_some_and(|line| line.contains(words))
    };
    let block = blocks.find(first).expect("the page shows it");
    block.split("```").next().unwrap().into()
}

/// The text without what differs from one time to the next: numbers, and the worker's
/// line, but that it is there.
fn shape(text: &str) -> Vec<String> {
    let word = |word: &str| word.replace(|c: char| c.is_ascii_digit(), "");
    let line = |line: &str| match line.starts_with("0 ") {
        true => "a worker".into(),
        false => line
            .split_whitespace()
            .map(word)
            .collect::<Vec<_>>()
            .join(" "),
    };
    text.lines().map(line).collect()
}

#[test]
fn where_nobody_answers_the_terminal_is_left_alone() {
    // Its own number: it does not serve.
    let none = std::process::id().to_string();
    let mut top = Terminal::of(&none);
    top.shows("Connection refused");
    assert!(!top.parser.screen().alternate_screen());
    assert_eq!(top.child.wait().unwrap().code(), Some(125));
}
