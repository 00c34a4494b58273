//! Looks into programs that run.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use crate::c_programs::compile;
use crate::{CRORE, Folder, said};

/// A thread that computes, or waits where libc does not see it, is reported with its
/// place and the way out.
#[test]
fn the_watchdog_names_the_option_that_keeps_a_thread_real() {
    let script = "import threading\ndef spins():\n n = 0\n for i in range(3 * 10**7): n += i\nt = \
                  threading.Thread(target=spins); t.start(); t.join()";
    let mut crore = Command::new(CRORE);
    crore.args(["run", "--", "/usr/bin/python3", "-c", script]);
    let (code, _, error) = said(crore.env("CRORE_WATCHDOG", "20"));
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains("has held worker 0"), "{error}");
    assert!(error.contains("`crore run --real '(^|/)python"), "{error}");
    // Kept real, it holds nobody.
    let real = [
        "run",
        "--real",
        "python",
        "--",
        "/usr/bin/python3",
        "-c",
        script,
    ];
    let mut crore = Command::new(CRORE);
    let (code, _, error) = said(crore.args(real).env("CRORE_WATCHDOG", "20000"));
    assert_eq!((code, error.as_str()), (Some(0), ""));
}

/// By the option that the report names, and by what was learnt.
#[test]
fn a_thread_that_waits_where_nobody_sees_it_is_learnt_to_be_kept_real() {
    let folder = Folder::new("learn");
    let program = compile(&folder, "inline_wait.c");
    let learnt = folder.file("learnt");
    let run = |option: &[&str]| {
        let mut crore = Command::new(CRORE);
        crore.arg("run").args(option).arg("--").arg(&program);
        said(&mut crore)
    };
    let learn = ["--learn", learnt.to_str().unwrap()];
    let (code, text, error) = run(&learn);
    assert_eq!((code, text.as_str()), (Some(0), "nobody came\n"));
    assert!(error.contains("in the system call futex"), "{error}");
    let pattern = std::fs::read_to_string(&learnt).unwrap();
    let pattern = pattern.strip_suffix('\n').unwrap();
    assert!(pattern.starts_with(r"(^|/)inline_wait:\+0x"), "{pattern}");
    let option = format!("`crore run --real '{pattern}'`");
    assert!(error.contains(&option), "{error}");
    let woken = (Some(0), "woken\n".to_owned(), String::new());
    assert_eq!(run(&learn), woken);
    assert_eq!(run(&["--real", pattern]), woken);
    assert_eq!(std::fs::read_to_string(&learnt).unwrap().lines().count(), 1);
}

/// A program that says `ready` and ends with its input.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(script: &str, setting: Option<(&str, &str)>) -> Self {
        let mut child = Command::new(CRORE)
            .args(["run", "--", "/usr/bin/python3", "-c", script])
            .envs(setting)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    pub(crate) fn process(&self) -> String {
        self.0.id().to_string()
    }

    fn asked(&self, args: &[&str]) -> (Option<i32>, String, String) {
        said(Command::new(CRORE).args(args).arg(self.process()))
    }

    pub(crate) fn end(mut self) {
        let mut stdin = self.0.stdin.take().unwrap();
        stdin.write_all(b"end\n").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const WAITERS: &str = r#"
import sys, threading
end = threading.Event()
threads = [threading.Thread(target=end.wait) for _ in range(20)]
for t in threads: t.start()
print("ready", flush=True)
sys.stdin.readline()
end.set()
for t in threads: t.join()
"#;

#[test]
fn a_dump_has_each_thread_of_a_program_with_its_stack() {
    let running = Running::start(WAITERS, None);
    // The last threads may not have come to their wait yet.
    let (text, groups) = loop {
        let (code, text, error) = running.asked(&["dump"]);
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let groups = text.split("\n\n").skip(1).map(str::to_owned);
        let groups: Vec<_> = groups.collect();
        if groups[0].starts_with("20 parked") {
            break (text, groups);
        }
    };
    // `main` reads; and the closure that waits for it.
    assert!(text.starts_with("22 coroutines: 22 parked\n"), "{text}");
    assert!(text.contains(", to read fd 0"), "{text}");
    assert!(groups[0].contains("PyThread_acquire_lock"), "{}", groups[0]);
    assert!(groups[0].contains("PyEval"), "{}", groups[0]);
    let (code, json, _) = running.asked(&["dump", "--json"]);
    assert_eq!(code, Some(0));
    let look = "import json, sys; d = json.load(sys.stdin); \
                print(len(d['coroutines']), d['coroutines'][0]['state'], len(d['stacks']) < 22)";
    let mut python = Command::new("/usr/bin/python3");
    let mut python = python
        .args(["-c", look])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(json.as_bytes()).unwrap();
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    // Waits for a semaphore look around now and then: one may be about to.
    let answers = ["22 parked True\n", "22 runnable True\n"];
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(answers.contains(&&*said), "{said}");
    let (code, metrics, _) = running.asked(&["metrics"]);
    assert_eq!(code, Some(0));
    assert!(
        metrics.contains("crore_spawned{worker=\"0\"} 22\n"),
        "{metrics}"
    );
    running.end();
}

#[test]
fn who_does_not_want_it_is_not_looked_into() {
    let running = Running::start(WAITERS, Some(("CRORE_INSPECT", "0")));
    let (code, text, error) = running.asked(&["dump"]);
    assert_eq!((code, text.as_str()), (Some(125), ""));
    assert!(error.contains("Connection refused"), "{error}");
    running.end();
}
