//! Programs in simulation: `crore sim`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs};

use crate::{CRORE, Folder, said};

/// Has the library beside the command that simulates: it is another build of the one that
/// cargo has made.
fn with_library() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(CRORE).parent().unwrap();
        let target = folder.join("preload-sim");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["rustc", "--quiet", "--lib", "--crate-type", "cdylib"])
            .args(["--features", "sim", "--manifest-path"])
            .arg(here.join("preload/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target);
        assert!(cargo.status().unwrap().success());
        // At once: another test may load it.
        let fresh = folder.join(format!("sim-{}", std::process::id()));
        fs::copy(target.join("debug/libcrore_preload.so"), &fresh).unwrap();
        fs::rename(fresh, folder.join("libcrore_preload_sim.so")).unwrap();
    });
}

/// A real interpreter: the one of that name may be a script that looks for it.
fn python() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut ask = Command::new("python3");
        let said = ask.args([
            "-c",
            "import os, sys; print(os.path.realpath(sys.executable))",
        ]);
        let path = said.output().unwrap().stdout;
        String::from_utf8(path).unwrap().trim().into()
    })
}

/// `crore sim` with these options and this script; not for ever.
fn simulate(options: &[&str], script: &str) -> Command {
    with_library();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120", CRORE, "sim"]);
    command.args(options).arg("--").arg(python());
    command.args(["-c", script]);
    command
}

fn by_seed(seed: u64, script: &str) -> (Option<i32>, String, String) {
    said(&mut simulate(&["--seed", &seed.to_string()], script))
}

/// Two hundred threads that sleep ten minutes each, five times, and tell each other.
const SLEEPERS: &str = r#"
import hashlib, queue, random, threading, time
began, log, q = time.time(), [], queue.Queue()
def worker(i):
    for r in range(5):
        time.sleep(random.expovariate(1/600))
        q.put((i, r, round(time.time() - began, 3)))
threads = [threading.Thread(target=worker, args=(i,)) for i in range(200)]
for t in threads: t.start()
for _ in range(1000): log.append(q.get())
for t in threads: t.join()
print(len(log), int(time.time() - began) > 3000, time.strftime('%Y-%m-%d', time.gmtime()))
print(hashlib.sha1(repr(log).encode()).hexdigest(), [str(i) for i in {str(i) for i in range(9)}])
"#;

#[test]
fn two_hundred_threads_sleep_an_hour_in_seconds_by_the_seed() {
    let began = Instant::now();
    let first = by_seed(7, SLEEPERS);
    assert_eq!((first.0, first.2.as_str()), (Some(0), ""), "{first:?}");
    assert!(first.1.starts_with("1000 True 2025-01-01\n"), "{first:?}");
    assert_eq!(by_seed(7, SLEEPERS), first);
    let other = by_seed(8, SLEEPERS);
    assert_ne!(other.1, first.1);
    // An hour is far more than any machine needs.
    assert!(began.elapsed() < Duration::from_secs(3000));
}

/// What a seed decides: chance of each kind, clocks, who takes a lock.
const CHOICES: &str = r#"
import os, random, socket, threading, time, uuid
print(random.random(), uuid.uuid4(), os.urandom(4).hex(), hash("word"), time.time())
log, lock = [], threading.Lock()
def work(i):
    for _ in range(5):
        with lock: log.append(i)
        time.sleep(0)
threads = [threading.Thread(target=work, args=(i,)) for i in range(9)]
for t in threads: t.start()
for t in threads: t.join()
print(log, time.monotonic())
server = socket.create_server(("127.0.0.1", 4000))
def serve():
    peer, _ = server.accept()
    with peer:
        while word := peer.recv(100): peer.sendall(word.upper())
threading.Thread(target=serve).start()
with socket.create_connection(("localhost", 4000), timeout=5) as peer:
    peer.sendall(b"hello")
    print(peer.recv(100))
"#;

#[test]
fn a_seed_is_a_run_of_a_program() {
    let run = |seed| {
        let (code, out, error) = by_seed(seed, CHOICES);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
        assert!(out.ends_with("b'HELLO'\n"), "{out}");
        out
    };
    let first = run(1);
    assert_eq!(run(1), first);
    let other = run(2);
    let differ = first
        .lines()
        .zip(other.lines())
        .filter(|(one, two)| one != two);
    assert_eq!(differ.count(), 2, "{first}{other}");
    // The threads took turns.
    assert!(
        !first.contains("0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2"),
        "{first}"
    );
}

#[test]
fn seeds_that_fail_are_named_with_what_they_said() {
    // A lost update, between a read and a write.
    let script = r#"
import threading, time
count, both = 0, threading.Barrier(2)
def add():
    global count
    both.wait()
    seen = count
    time.sleep(0)
    count = seen + 1
threads = [threading.Thread(target=add) for _ in range(2)]
for t in threads: t.start()
for t in threads: t.join()
assert count == 2, "an update is lost"
"#;
    let (code, _, error) = said(&mut simulate(&["--seeds", "0..12"], script));
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("an update is lost"), "{error}");
    let last = error.lines().last().unwrap();
    assert!(
        last.starts_with("crore: of 12 seeds these fail: "),
        "{error}"
    );
    // One of them alone fails as well.
    let seed = last.rsplit([' ', ',']).next().unwrap().parse().unwrap();
    assert_eq!(by_seed(seed, script).0, Some(1));
    let (code, _, error) = said(&mut simulate(&["--seeds", "0..3"], "print(1)"));
    assert_eq!(
        (code, error.as_str()),
        (Some(0), "crore: 3 seeds, none fails\n")
    );
}

#[test]
fn a_trace_says_what_happens_and_escapes_are_named() {
    let folder = Folder::new("trace");
    let trace = folder.file("trace");
    let script = r#"
import ctypes, socket
libc = ctypes.CDLL(None)
assert libc.timerfd_create(1, 0) > 0
server = socket.create_server(("127.0.0.1", 4000))
socket.create_connection(("127.0.0.1", 4000), timeout=5)
"#;
    let options = ["--trace", trace.to_str().unwrap(), "--seed=3"];
    let (code, out, error) = said(&mut simulate(&options, script));
    assert_eq!((code, out.as_str()), (Some(0), ""), "{error}");
    let first = "crore: in the simulation of seed 3 the system call timerfd_create (283) passed";
    assert!(error.starts_with(first), "{error}");
    let text = fs::read_to_string(trace).unwrap();
    assert!(text.contains(": connect program:"), "{text}");
    assert!(
        text.contains("timerfd_create (283) passes the hooks"),
        "{text}"
    );
}
