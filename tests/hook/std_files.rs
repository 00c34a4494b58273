//! std's files, processes and sleeps: every blocking function, on threads and
//! in coroutines, with the same results and the same errors.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::hook_common::{pattern, same};

fn kind<T>(result: io::Result<T>) -> Result<T, (io::ErrorKind, Option<i32>)> {
    result.map_err(|error| (error.kind(), error.raw_os_error()))
}

/// An empty directory of one's own.
fn dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("crore-rest-{}-{number}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    dir
}

#[test]
fn files() {
    same(|_| {
        let dir = dir();
        let path = dir.join("file");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let mut file = options.open(&path).unwrap();
        let mut out = Vec::new();
        let again = kind(options.open(&path).map(|_| 0));
        out.push(again);
        out.push(kind(file.write_all(&pattern(200_000)).map(|()| 0)));
        out.push(kind(file.write_at(b"middle", 100_000).map(|n| n as u64)));
        out.push(kind(file.write_all_at(b"end", 300_000).map(|()| 0)));
        out.push(kind(file.sync_all().map(|()| 0)));
        out.push(kind(file.sync_data().map(|()| 0)));
        let mut some = vec![0; 1000];
        out.push(kind(file.read_at(&mut some, 99_990).map(|n| n as u64)));
        out.push(kind(file.read_exact_at(&mut some, 299_990).map(|()| 0)));
        out.push(kind(file.seek(SeekFrom::End(-10))));
        out.push(kind(file.read(&mut some).map(|n| n as u64)));
        out.push(kind(file.set_len(250_000).map(|()| 0)));
        out.push(kind(file.rewind().map(|()| 0)));
        let mut all = Vec::new();
        out.push(kind(file.read_to_end(&mut all).map(|n| n as u64)));
        out.push(kind(file.lock().map(|()| 0)));
        let other = File::open(&path).unwrap();
        let busy = matches!(other.try_lock(), Err(fs::TryLockError::WouldBlock));
        out.push(Ok(u64::from(busy)));
        out.push(kind(file.unlock().map(|()| 0)));
        out.push(kind(other.lock_shared().map(|()| 0)));
        out.push(kind((&other).write(b"read only").map(|n| n as u64)));
        fs::remove_dir_all(dir).unwrap();
        (out, all, some)
    });
}

#[test]
fn whole_files_and_directories() {
    same(|_| {
        let dir = dir();
        let (a, b) = (dir.join("a"), dir.join("b"));
        let mut out = Vec::new();
        out.push(kind(fs::write(&a, pattern(400_000)).map(|()| 0)));
        out.push(kind(fs::copy(&a, &b)));
        let copied = fs::read(&b).unwrap();
        out.push(kind(fs::read_to_string("/proc/self/comm").map(|_| 0)));
        out.push(kind(fs::read_to_string(dir.join("missing")).map(|_| 0)));
        out.push(kind(fs::read(&dir).map(|_| 0)));
        out.push(kind(fs::rename(&a, dir.join("c")).map(|()| 0)));
        out.push(kind(fs::hard_link(&b, dir.join("d")).map(|()| 0)));
        let mut names: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        out.push(kind(fs::metadata(&b).map(|meta| meta.len())));
        let mut into = File::create(dir.join("e")).unwrap();
        out.push(kind(io::copy(&mut File::open(&b).unwrap(), &mut into)));
        out.push(kind(fs::remove_dir(&dir).map(|()| 0)));
        fs::remove_dir_all(&dir).unwrap();
        (out, copied, names)
    });
}

#[test]
fn a_lock_is_waited_for() {
    same(|on| {
        let dir = dir();
        let path = dir.join("lock");
        let (one, other) = (File::create(&path).unwrap(), File::create(&path).unwrap());
        one.lock().unwrap();
        let waits = on.go(move || kind(other.lock()));
        one.unlock().unwrap();
        let locked = waits.join();
        fs::remove_dir_all(dir).unwrap();
        locked
    });
}

#[test]
fn processes() {
    same(|on| {
        let sh = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let output = sh("echo out; echo err >&2; exit 3").output().unwrap();
        let status = sh("kill -9 $$").status().unwrap();
        let missing = kind(Command::new("/no/such/program").output().map(drop));
        let mut filter = Command::new("cat");
        let mut child = filter
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let writer = on.go(move || to.write_all(&pattern(300_000)).is_ok());
        let mut lines = Vec::new();
        BufReader::new(from).read_until(b'\0', &mut lines).unwrap();
        let early = child
            .try_wait()
            .map(|status| status.is_none() || status.is_some());
        let first = lines.len();
        let ended = (
            writer.join(),
            child.wait().unwrap().code(),
            child.wait().unwrap().code(),
        );
        let piped = sh("yes | head -c 100000").output().unwrap().stdout.len();
        let mut waits = sh("read x").stdin(Stdio::piped()).spawn().unwrap();
        waits.kill().unwrap();
        let killed = format!("{:?}", waits.wait_with_output().unwrap().status);
        (
            output,
            format!("{status:?}"),
            missing,
            early.unwrap(),
            first,
            ended,
            piped,
            killed,
        )
    });
}

#[test]
fn sleeping() {
    same(|on| {
        let begun = Instant::now();
        let sleepers: Vec<_> = [0, 1, 5, 20]
            .map(|millis| {
                on.go(move || {
                    let time = Duration::from_millis(millis);
                    let begun = Instant::now();
                    std::thread::sleep(time);
                    begun.elapsed() >= time
                })
            })
            .into();
        let all: Vec<_> = sleepers.into_iter().map(|one| one.join()).collect();
        std::thread::yield_now();
        (all, begun.elapsed() >= Duration::from_millis(20))
    });
}

#[test]
fn standard_streams() {
    same(|_| {
        let mut out = io::stderr().lock();
        let written = kind(out.write_all(b""));
        (written, kind(io::stdout().flush()))
    });
}

#[test]
fn reading_what_another_writes() {
    same(|on| {
        let dir = dir();
        let path = dir.join("growing");
        let mut out = File::create(&path).unwrap();
        let (tx, mut rx) = io::pipe().map(|(r, w)| (w, r)).unwrap();
        let reader = on.go(move || {
            rx.read_exact(&mut [0]).unwrap();
            let mut text = String::new();
            File::open(path).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        out.write_all(b"some text").unwrap();
        (&tx).write_all(b"!").unwrap();
        let text = reader.join();
        fs::remove_dir_all(dir).unwrap();
        text
    });
}
