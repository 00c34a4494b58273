//! Where a `FILE` meets others: its other users, its end, its prompt, the messages and
//! lines that its other side sees, and the turns of the other coroutines.

#![cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
#![allow(clippy::incompatible_msrv, reason = "tests may use what is younger")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use libc::FILE;

use crate::common::with_own_locals;
use crate::hook_common::{On, in_coroutines, said, same};

unsafe extern "C" {
    static stdin: *mut FILE;
    static stdout: *mut FILE;
    fn flockfile(file: *mut FILE);
    fn funlockfile(file: *mut FILE);
    fn ftrylockfile(file: *mut FILE) -> c_int;
    fn dprintf(fd: c_int, format: *const c_char, ...) -> c_int;
}

/// A file that all may use.
#[derive(Clone, Copy)]
struct Shared(*mut FILE);
// SAFETY: libc locks it.
unsafe impl Send for Shared {}

impl Shared {
    fn new(fd: impl IntoRawFd, mode: &CStr) -> Self {
        // SAFETY: a descriptor that is given away.
        let file = unsafe { libc::fdopen(fd.into_raw_fd(), mode.as_ptr()) };
        assert!(!file.is_null());
        Self(file)
    }

    fn open(path: &CStr, mode: &CStr) -> Self {
        // SAFETY: C strings.
        let file = unsafe { libc::fopen(path.as_ptr(), mode.as_ptr()) };
        assert!(!file.is_null());
        Self(file)
    }

    fn get(self) -> c_int {
        // SAFETY: an open file.
        unsafe { libc::fgetc(self.0) }
    }

    fn put(self, text: &CStr) -> c_int {
        // SAFETY: an open file.
        unsafe { libc::fputs(text.as_ptr(), self.0) }
    }

    fn flush(self) -> c_int {
        // SAFETY: an open file.
        unsafe { libc::fflush(self.0) }
    }

    fn close(self) -> c_int {
        // SAFETY: an open file, which nobody uses any more.
        unsafe { libc::fclose(self.0) }
    }
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// Runs it in a coroutine of each kind.
fn each_kind(f: fn()) {
    for own in with_own_locals() {
        std::thread::spawn(move || {
            crore::run(move || {
                let builder = crore::Builder::new().own_thread_locals(own);
                builder.spawn(f).unwrap().join().unwrap();
            })
            .unwrap();
        })
        .join()
        .unwrap();
    }
}

/// As [`each_kind`], in a process of its own: what flushes all files meets those of other
/// tests, which use some without their locks.
fn each_kind_alone(name: &str, f: fn()) {
    if std::env::var("CRORE_FLUSH_CHILD").is_ok() {
        return each_kind(f);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("CRORE_FLUSH_CHILD", "")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

/// A coroutine of the caller's kind.
fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> crore::JoinHandle<T> {
    thread_local!(static MARK: u8 = const { 0 });
    let mine = MARK.with(|mark| std::ptr::from_ref(mark).addr());
    let of_thread = crore::spawn(move || MARK.with(|mark| std::ptr::from_ref(mark).addr()));
    let own = of_thread.join().unwrap() != mine;
    crore::Builder::new()
        .own_thread_locals(own)
        .spawn(f)
        .unwrap()
}

fn a_few_turns() {
    for _ in 0..20 {
        crore::yield_now();
    }
}

/// Fills a pipe, and says how many bytes that took.
fn filled(to: &PipeWriter) -> usize {
    let fd = to.as_raw_fd();
    // SAFETY: a valid descriptor and bytes.
    unsafe {
        libc::fcntl(fd, libc::F_SETPIPE_SZ, 4096);
        libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
        let bytes = [b'-'; 512];
        let mut all = 0;
        while let n @ 1.. = libc::write(fd, bytes.as_ptr().cast(), bytes.len()) {
            all += n as usize;
        }
        libc::fcntl(fd, libc::F_SETFL, 0);
        all
    }
}

fn everything(mut from: PipeReader) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn a_close_waits_for_who_reads() {
    each_kind(|| {
        let (from, mut to) = pipe().unwrap();
        let file = Shared::new(from, c"r");
        let reads = spawn(move || file.get());
        a_few_turns();
        let closes = spawn(move || file.close());
        a_few_turns();
        assert!(!closes.is_finished());
        to.write_all(b"x").unwrap();
        assert_eq!(reads.join().unwrap(), c_int::from(b'x'));
        assert_eq!(closes.join().unwrap(), 0);
    });
}

#[test]
fn a_new_beginning_waits_for_who_reads() {
    each_kind(|| {
        let (from, mut to) = pipe().unwrap();
        let file = Shared::new(from, c"r");
        let reads = spawn(move || file.get());
        a_few_turns();
        let begins = spawn(move || {
            // SAFETY: C strings, an open file.
            let again = unsafe { libc::freopen(c"/dev/null".as_ptr(), c"r".as_ptr(), { file }.0) };
            again == { file }.0
        });
        a_few_turns();
        assert!(!begins.is_finished());
        to.write_all(b"x").unwrap();
        assert_eq!(reads.join().unwrap(), c_int::from(b'x'));
        assert!(begins.join().unwrap());
        assert_eq!((file.get(), file.close()), (libc::EOF, 0));
    });
}

#[test]
fn the_end_of_a_command_waits_for_who_reads() {
    each_kind(|| {
        // SAFETY: C strings.
        let file = unsafe { libc::popen(c"sleep 0.1; echo x".as_ptr(), c"r".as_ptr()) };
        let file = Shared(file);
        let reads = spawn(move || file.get());
        a_few_turns();
        // SAFETY: the command's, which ends here.
        let ends = spawn(move || unsafe { libc::pclose({ file }.0) });
        assert_eq!(reads.join().unwrap(), c_int::from(b'x'));
        assert_eq!(ends.join().unwrap(), 0);
    });
}

/// The lock of a file that was closed by who held it is no other file's.
#[test]
fn a_lock_ends_with_its_file() {
    each_kind(|| {
        let mut others = Vec::new();
        // Others use the memory, too, so it may take some turns.
        let again = (0..20).any(|_| {
            let first = Shared::open(c"/dev/null", c"w");
            let second = Shared::open(c"/dev/null", c"w");
            for file in [first, second] {
                // SAFETY: an open file.
                unsafe { flockfile(file.0) };
            }
            assert_eq!((first.close(), second.close()), (0, 0));
            // Somewhere they come to lie where those were.
            (0..20).any(|_| {
                let file = Shared::open(c"/dev/null", c"w");
                others.push(file);
                file.0 == first.0 || file.0 == second.0
            })
        });
        assert!(again, "libc's allocator gives no memory twice");
        let other = spawn(move || {
            for file in others {
                // SAFETY: an open file.
                unsafe {
                    assert_eq!(ftrylockfile(file.0), 0);
                    funlockfile(file.0);
                }
                assert_eq!(file.close(), 0);
            }
        });
        other.join().unwrap();
    });
}

/// Who flushes all does not write once more what another is about to write.
#[test]
fn what_is_written_is_written_once() {
    each_kind_alone("stdio_borders::what_is_written_is_written_once", || {
        let (from, to) = pipe().unwrap();
        let before = filled(&to);
        let file = Shared::new(to, c"w");
        file.put(c"once");
        let flushes = spawn(move || file.flush());
        a_few_turns();
        // A thread, because it may be the worker that stands still.
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            everything(from)
        });
        // SAFETY: null means all files.
        assert_eq!(unsafe { libc::fflush(null_mut()) }, 0);
        assert_eq!(flushes.join().unwrap(), 0);
        assert_eq!(file.close(), 0);
        let all = reader.join().unwrap();
        assert_eq!(String::from_utf8_lossy(&all[before..]), "once");
    });
}

#[test]
fn all_files_are_flushed_and_the_worker_goes_on() {
    let name = "stdio_borders::all_files_are_flushed_and_the_worker_goes_on";
    each_kind_alone(name, || {
        let (idle, _to) = pipe().unwrap();
        let idle = Shared::new(idle, c"r");
        // Holds its lock all the time.
        let waits = spawn(move || idle.get());
        let (from, to) = pipe().unwrap();
        let before = filled(&to);
        let (other, other_to) = pipe().unwrap();
        let [full, small] = [Shared::new(to, c"w"), Shared::new(other_to, c"w")];
        assert!(full.put(c"much") >= 0 && small.put(c"little") >= 0);
        // SAFETY: null means all files.
        let flushes = spawn(|| unsafe { libc::fflush(null_mut()) });
        a_few_turns();
        assert!(!flushes.is_finished());
        let reads = spawn(move || everything(from));
        assert_eq!(flushes.join().unwrap(), 0);
        assert_eq!((full.close(), small.close()), (0, 0));
        assert_eq!(reads.join().unwrap()[before..], *b"much");
        assert_eq!(everything(other), b"little");
        waits.cancel();
        waits.join().unwrap();
        assert_eq!(idle.close(), 0);
    });
}

#[test]
fn a_close_parks_while_the_pipe_is_full() {
    each_kind(|| {
        let (from, to) = pipe().unwrap();
        let before = filled(&to);
        let file = Shared::new(to, c"w");
        file.put(c"the rest");
        let closes = spawn(move || file.close());
        a_few_turns();
        assert!(!closes.is_finished());
        let all = spawn(move || everything(from)).join().unwrap();
        assert_eq!(all[before..], *b"the rest");
        assert_eq!(closes.join().unwrap(), 0);
    });
}

#[test]
fn two_readers_of_one_pipe_park_both() {
    each_kind(|| {
        let (from, mut to) = pipe().unwrap();
        let files = [
            Shared::new(from.try_clone().unwrap(), c"r"),
            Shared::new(from, c"r"),
        ];
        let readers = files.map(|file| spawn(move || file.get()));
        a_few_turns();
        to.write_all(b"x").unwrap();
        // Who comes second finds nothing, and goes on waiting.
        while !readers.iter().any(crore::JoinHandle::is_finished) {
            crore::yield_now();
        }
        a_few_turns();
        to.write_all(b"y").unwrap();
        let mut got = readers.map(|reader| reader.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [i32::from(b'x'), i32::from(b'y')]);
        assert_eq!(files.map(Shared::close), [0, 0]);
    });
}

/// Another's turn comes before a million rounds of `call` are over.
fn gives_way(mut call: impl FnMut()) {
    static TURNS: AtomicU32 = AtomicU32::new(0);
    let done = std::sync::Arc::new(AtomicBool::new(false));
    let turn = done.clone();
    let other = spawn(move || {
        turn.store(true, Ordering::Relaxed);
        TURNS.fetch_add(1, Ordering::Relaxed)
    });
    let rounds = (0..1_000_000).position(|_| {
        call();
        done.load(Ordering::Relaxed)
    });
    assert!(rounds.is_some(), "nobody else had a turn");
    other.join().unwrap();
}

#[test]
fn reads_that_are_always_ready_give_way() {
    each_kind(|| {
        let zeros = Shared::open(c"/dev/zero", c"r");
        let mut place = [1_u8; 64];
        let to: *mut c_void = place.as_mut_ptr().cast();
        // SAFETY: an open file, places with room.
        unsafe {
            libc::setvbuf(zeros.0, null_mut(), libc::_IONBF, 0);
            gives_way(|| assert_eq!(libc::fread(to, 1, 64, zeros.0), 64));
            let fd = libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY);
            gives_way(|| assert_eq!(libc::read(fd, to, 64), 64));
            libc::close(fd);
            let fd = libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY);
            let one = libc::iovec {
                iov_base: to,
                iov_len: 64,
            };
            gives_way(|| assert_eq!(libc::readv(fd, &raw const one, 1), 64));
            libc::close(fd);
        }
        zeros.close();
    });
}

#[test]
fn what_is_only_written_is_not_read() {
    same(|_| {
        let (a, b) = UnixDatagram::pair().unwrap();
        let [writes, reads] = [Shared::new(a, c"w"), Shared::new(b, c"r")];
        let mut out = vec![(writes.get(), errno())];
        // SAFETY: an open file, places with room.
        unsafe {
            let (mut line, mut room) = (null_mut(), 0);
            let got = libc::getline(&mut line, &mut room, writes.0);
            out.push((got as c_int, errno()));
            libc::free(line.cast());
            let mut place = [0_u8; 4];
            out.push((
                libc::fread(place.as_mut_ptr().cast(), 1, 4, writes.0) as c_int,
                errno(),
            ));
            out.push((libc::ferror(writes.0), libc::feof(writes.0)));
        }
        out.push((reads.put(c"text"), errno()));
        out.push((reads.close(), writes.close()));
        out
    });
}

/// Each message that comes.
fn messages(of: &UnixDatagram) -> Vec<String> {
    let mut place = [0; 100_000];
    of.set_nonblocking(true).unwrap();
    let mut all = Vec::new();
    while let Ok(len) = of.recv(&mut place) {
        all.push(String::from_utf8_lossy(&place[..len]).into_owned());
    }
    all
}

#[test]
fn a_line_is_one_write_and_nothing_is_none() {
    same(|_| {
        let (a, b) = UnixDatagram::pair().unwrap();
        let file = Shared::new(a, c"w");
        let mut out = Vec::new();
        // SAFETY: an open file, formats with their arguments, bytes.
        unsafe {
            libc::setvbuf(file.0, null_mut(), libc::_IOLBF, 0);
            for byte in b"ab\n" {
                libc::fputc(c_int::from(*byte), file.0);
            }
            file.put(c"one ");
            file.put(c"line\ntwo");
            libc::fprintf(file.0, c"%s, %d\n".as_ptr(), c" lines".as_ptr(), 7);
            libc::fprintf(file.0, c"".as_ptr());
            libc::fwrite(c"x\ny\nz".as_ptr().cast(), 1, 5, file.0);
            libc::fflush(file.0);
            let long = "l".repeat(9_000) + "\nrest";
            libc::fwrite(long.as_ptr().cast(), 1, long.len(), file.0);
            libc::fflush(file.0);
            libc::fflush(file.0);
            libc::setvbuf(file.0, null_mut(), libc::_IONBF, 0);
            libc::fprintf(file.0, c"%d %s %d".as_ptr(), 1, c"at once".as_ptr(), 2);
            libc::fwrite(null_mut(), 1, 0, file.0);
            file.put(c"");
            let number = libc::fileno(file.0);
            out.push(dprintf(number, c"".as_ptr()));
            out.push(dprintf(number, c"%s".as_ptr(), c"".as_ptr()));
            out.push(dprintf(number, c"%d-%d".as_ptr(), 3, 4));
        }
        let all = messages(&b);
        out.push(file.close());
        (out, all)
    });
}

#[test]
fn a_text_that_does_not_go_out_is_an_error() {
    same(|_| {
        let (_from, to) = pipe().unwrap();
        // SAFETY: a valid descriptor, formats with their arguments.
        unsafe {
            // Room for a part.
            libc::fcntl(to.as_raw_fd(), libc::F_SETPIPE_SZ, 4096);
            libc::fcntl(to.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
            let text = std::ffi::CString::new(vec![b't'; 9_000]).unwrap();
            let said = dprintf(to.as_raw_fd(), c"%s".as_ptr(), text.as_ptr());
            (said, errno())
        }
    });
}

/// In a child, whose standard streams are pipes: what asks, and waits for the answer.
#[test]
fn a_prompt_is_seen_before_the_answer_is_waited_for() {
    if let Ok(kind) = std::env::var("CRORE_PROMPT_CHILD") {
        let ask = || {
            // SAFETY: libc's own files.
            unsafe {
                libc::setvbuf(stdin, null_mut(), libc::_IONBF, 0);
                libc::setvbuf(stdout, null_mut(), libc::_IOLBF, 0);
                libc::fputs(c"prompt> ".as_ptr(), stdout);
                let answer = libc::getchar();
                libc::printf(c"answer %c\n".as_ptr(), answer);
            }
        };
        match &*kind {
            "thread" => ask(),
            kind => {
                let own = kind == "own";
                let body = move || {
                    let builder = crore::Builder::new().own_thread_locals(own);
                    builder.spawn(ask).unwrap().join().unwrap();
                };
                crore::run(body).unwrap();
            }
        }
        std::process::exit(0);
    }
    let kinds = ["plain", "own"].into_iter().zip(with_own_locals());
    for kind in ["thread"].into_iter().chain(kinds.map(|(kind, _)| kind)) {
        let name = "stdio_borders::a_prompt_is_seen_before_the_answer_is_waited_for";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("CRORE_PROMPT_CHILD", kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut seen, mut from) = (Vec::new(), child.stdout.take().unwrap());
        while !seen.ends_with(b"prompt> ") {
            let mut byte = [0];
            from.read_exact(&mut byte).unwrap();
            seen.extend(byte);
        }
        child.stdin.take().unwrap().write_all(b"a").unwrap();
        let mut rest = String::new();
        from.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "answer a\n", "{kind}");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_cancelled_close_closes() {
    in_coroutines(|_: On| {
        let (from, to) = pipe().unwrap();
        filled(&to);
        let fd = to.as_raw_fd();
        let file = Shared::new(to, c"w");
        file.put(c"lost");
        let closes = crore::spawn(move || (file.close(), errno()));
        a_few_turns();
        closes.cancel();
        assert_eq!(closes.join().unwrap(), (libc::EOF, libc::ECANCELED));
        // SAFETY: takes no pointer.
        let open = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        assert_eq!(said(open as isize), Err(libc::EBADF));
        drop(from);
    });
}
