//! Random calls on `FILE`s, in each mode on each kind of descriptor: in coroutines they
//! say what they say on threads, to the last errno, and the other side gets the same
//! bytes. The seeds are the same each time; `CRORE_STDIO_SEEDS` asks for more of them.

#![cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
#![allow(clippy::incompatible_msrv, reason = "tests may use what is younger")]

use std::ffi::{CStr, CString, c_int};
use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr::null_mut;

use libc::{FILE, off_t};

use crate::common::has_own_locals;
use crate::hook_common::{On, Started, pattern};

const MODES: [&CStr; 6] = [c"r", c"w", c"a", c"r+", c"w+", c"a+"];

/// What a file is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// With some bytes.
    Regular,
    /// The other side writes pieces and closes, or reads all, while the calls are made.
    Pipe,
    /// The same before, or after; the file does not wait.
    NonBlocking,
    /// The other side has written, and reads all.
    Socket,
    /// The other side reads all.
    Terminal,
}

const KINDS: [Kind; 5] = [
    Kind::Regular,
    Kind::Pipe,
    Kind::NonBlocking,
    Kind::Socket,
    Kind::Terminal,
];

#[derive(Clone, Debug)]
enum Call {
    Get,
    GetUnlocked,
    Line(c_int),
    AnyLine(u8),
    Block(usize, usize),
    Unget(u8),
    Put(u8),
    Text(usize),
    Write(usize),
    Print(c_int, usize),
    Flush,
    Seek(off_t, c_int),
    Tell,
    Rewind,
    Buffer(c_int, usize),
    ClearError,
    Reopen(usize),
}

/// xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }

    /// Mostly little.
    fn size(&mut self) -> usize {
        let most = [3, 40, 600, 5_000][self.below(4)];
        self.below(most)
    }
}

struct Scenario {
    kind: Kind,
    mode: usize,
    calls: Vec<Call>,
}

impl Scenario {
    fn new(seed: usize) -> Self {
        let mut random = Random((seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        random.below(2);
        let kind = KINDS[seed % KINDS.len()];
        let mode = match kind {
            // A pipe has one direction.
            Kind::Pipe | Kind::NonBlocking => random.below(3),
            // Its reads are in `terminals.rs`: what feeds one has no end to give.
            Kind::Terminal => 1 + random.below(2),
            _ => random.below(MODES.len()),
        };
        let mut calls: Vec<_> = (0..30).map(|_| call(&mut random, kind)).collect();
        if random.below(2) == 0 {
            let kinds = [libc::_IOFBF, libc::_IOLBF, libc::_IONBF];
            calls[0] = Call::Buffer(kinds[random.below(3)], random.size());
            // With what was put back glibc loses sight of whose buffer it is, and frees it.
            calls.retain(|call| !matches!(call, Call::Unget(_)));
        }
        if mode != 0 && (mode < 3 || kind != Kind::Regular) {
            // Nor does it bear what was put back before it writes, and can't be sought away.
            calls.retain(|call| !matches!(call, Call::Unget(_)));
        }
        if kind == Kind::NonBlocking || kind == Kind::Socket && mode > 2 {
            // Of a text that does not go out, or not in one, libc writes and keeps other
            // parts: it prints piece by piece, where ours is one.
            calls.retain(|call| !matches!(call, Call::Print(..)));
        }
        if kind == Kind::Pipe {
            // Whether a position is asked for depends on what was read ahead: chance, here.
            calls.retain(|call| !matches!(call, Call::Seek(..) | Call::Rewind));
        }
        let reopens = calls.iter().any(|call| matches!(call, Call::Reopen(_)));
        if reopens || mode == 1 || mode == 2 {
            // glibc makes large reads of files that are only written, too: what they still
            // have is lost, and a terminal is waited for for ever.
            calls.retain(|call| !matches!(call, Call::Block(..)));
        }
        // As C wants it: not after a write, and not before one. Otherwise glibc frees what
        // is not its own.
        let here = Call::Seek(0, libc::SEEK_CUR);
        let calls = calls.into_iter().flat_map(|call| match call {
            Call::Unget(_) if reopens || mode != 0 => {
                vec![here.clone(), call, Call::Get, here.clone()]
            }
            Call::Unget(_) => vec![call, Call::Get],
            // What comes after a write without this depends on its last piece.
            Call::Print(..) if reopens || mode > 2 => vec![call, here.clone()],
            call => vec![call],
        });
        let calls = calls.collect();
        Self { kind, mode, calls }
    }

    fn writes(&self) -> bool {
        self.mode != 0
    }
}

fn call(random: &mut Random, kind: Kind) -> Call {
    match random.below(36) {
        0..=3 => Call::Get,
        4..=5 => Call::GetUnlocked,
        6..=8 => Call::Line(1 + random.size() as c_int),
        9..=10 => Call::AnyLine(b"\n0z"[random.below(3)]),
        11..=13 => Call::Block(1 + random.below(7), random.size()),
        14..=16 => Call::Unget(random.below(256) as u8),
        17..=18 => Call::Put(random.below(256) as u8),
        19..=20 => Call::Text(random.size()),
        21..=23 => Call::Write(random.size()),
        24..=25 => Call::Print(random.below(1000) as c_int - 500, random.size()),
        26..=27 => Call::Flush,
        28..=29 => Call::Seek(
            random.size() as off_t - 20,
            [libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END][random.below(3)],
        ),
        30 => Call::Tell,
        31..=32 => Call::Rewind,
        33..=34 => Call::ClearError,
        // The other side would not be told from what it was.
        _ if kind != Kind::Regular => Call::Get,
        _ => Call::Reopen(random.below(MODES.len())),
    }
}

/// Lines of all lengths.
fn input(len: usize) -> Vec<u8> {
    let mut bytes = pattern(len);
    for at in [7, 8, 60, 300, 1_500, 1_501, 4_095, 4_096, 9_000] {
        if let Some(byte) = bytes.get_mut(at) {
            *byte = b'\n';
        }
    }
    bytes
}

/// What a call said: its result, errno, the end, an error, and bytes.
type Said = (i64, c_int, bool, bool, Vec<u8>);

/// A file, and what it is on.
struct Subject {
    file: *mut FILE,
    path: CString,
    buffers: Vec<Vec<u8>>,
}

impl Subject {
    /// Makes a call; `errno` is one that no call sets.
    fn make(&mut self, call: &Call) -> Said {
        let mut bytes = Vec::new();
        // SAFETY: an open file; places with room, text with its end.
        let result = unsafe {
            *libc::__errno_location() = 111_111;
            match *call {
                Call::Get => libc::fgetc(self.file).into(),
                Call::GetUnlocked => getc_unlocked(self.file).into(),
                Call::Line(room) => {
                    bytes = vec![1; room as usize];
                    let to = bytes.as_mut_ptr().cast();
                    i64::from(!libc::fgets(to, room, self.file).is_null())
                }
                Call::AnyLine(last) => {
                    let (mut line, mut room) = (null_mut(), 0);
                    let got = getdelim(&mut line, &mut room, last.into(), self.file);
                    if got >= 0 {
                        bytes = std::slice::from_raw_parts(line.cast(), got as usize + 1).to_vec();
                    }
                    let errno = *libc::__errno_location();
                    libc::free(line.cast());
                    *libc::__errno_location() = errno;
                    got as i64
                }
                Call::Block(one, count) => {
                    bytes = vec![1; one * count];
                    libc::fread(bytes.as_mut_ptr().cast(), one, count, self.file) as i64
                }
                Call::Unget(byte) => libc::ungetc(byte.into(), self.file).into(),
                Call::Put(byte) => libc::fputc(byte.into(), self.file).into(),
                Call::Text(len) => libc::fputs(text(len).as_ptr(), self.file).into(),
                Call::Write(len) => {
                    let from = input(len);
                    libc::fwrite(from.as_ptr().cast(), 1, len, self.file) as i64
                }
                Call::Print(number, len) => {
                    let text = text(len);
                    let format = c"%d|%s\n%5.1f";
                    libc::fprintf(self.file, format.as_ptr(), number, text.as_ptr(), 2.5).into()
                }
                Call::Flush => libc::fflush(self.file).into(),
                Call::Seek(to, from) => libc::fseeko(self.file, to, from).into(),
                Call::Tell => libc::ftello(self.file),
                Call::Rewind => {
                    libc::rewind(self.file);
                    0
                }
                Call::Buffer(kind, len) => {
                    self.buffers.push(vec![0; len.max(1)]);
                    let buffer = self.buffers.last_mut().unwrap().as_mut_ptr().cast();
                    libc::setvbuf(self.file, buffer, kind, len).into()
                }
                Call::ClearError => {
                    libc::clearerr(self.file);
                    0
                }
                Call::Reopen(mode) => {
                    let again = libc::freopen(self.path.as_ptr(), MODES[mode].as_ptr(), self.file);
                    i64::from(again == self.file)
                }
            }
        };
        // SAFETY: the thread's own; an open file.
        unsafe {
            let errno = *libc::__errno_location();
            let (end, error) = (libc::feof(self.file) != 0, libc::ferror(self.file) != 0);
            (result, errno, end, error, bytes)
        }
    }
}

fn text(len: usize) -> CString {
    let all = input(len).into_iter().map(|byte| byte.max(1)).collect();
    CString::new::<Vec<u8>>(all).unwrap()
}

unsafe extern "C" {
    fn getc_unlocked(file: *mut FILE) -> c_int;
    fn getdelim(
        line: *mut *mut std::ffi::c_char,
        room: *mut usize,
        last: c_int,
        file: *mut FILE,
    ) -> isize;
}

/// The other side: what it got, once the file is closed.
enum Other {
    Regular(CString),
    /// And what writes to the file, which gets nothing.
    Got(Vec<Started<Vec<u8>>>),
}

fn everything(mut from: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    // A terminal's end is an error.
    let _ = from.read_to_end(&mut all);
    all
}

fn feed(mut to: impl Write, len: usize) -> Vec<u8> {
    for piece in input(len).chunks(777) {
        // Who closes early wants no more.
        if to.write_all(piece).is_err() {
            break;
        }
        std::thread::yield_now();
    }
    Vec::new()
}

fn set_nonblocking(fd: RawFd) {
    // SAFETY: takes no pointer.
    unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
}

/// A terminal that passes bytes as they are, and its master.
fn terminal() -> (OwnedFd, File) {
    // SAFETY: places for two descriptors and the settings of one.
    unsafe {
        let (mut master, mut slave) = (0, 0);
        let made = libc::openpty(&mut master, &mut slave, null_mut(), null_mut(), null_mut());
        assert_eq!(made, 0);
        let mut settings: libc::termios = std::mem::zeroed();
        libc::tcgetattr(slave, &mut settings);
        libc::cfmakeraw(&mut settings);
        libc::tcsetattr(slave, libc::TCSANOW, &settings);
        (OwnedFd::from_raw_fd(slave), File::from_raw_fd(master))
    }
}

impl Scenario {
    /// The descriptor for the file, and its other side.
    fn begin(&self, on: On, name: &str) -> (RawFd, Other) {
        match self.kind {
            Kind::Regular => {
                let path = std::env::temp_dir().join(format!("crore-stdio-{name}"));
                std::fs::write(&path, input(6_000)).unwrap();
                let file = File::options().read(true).write(true).open(&path).unwrap();
                let path = CString::new(path.into_os_string().into_encoded_bytes()).unwrap();
                (file.into_raw_fd(), Other::Regular(path))
            }
            Kind::Pipe if self.writes() => {
                let (from, to) = pipe().unwrap();
                (
                    to.into_raw_fd(),
                    Other::Got(vec![on.go(move || everything(from))]),
                )
            }
            Kind::Pipe => {
                let (from, to) = pipe().unwrap();
                let fed = on.go(move || feed(to, 20_000));
                (from.into_raw_fd(), Other::Got(vec![fed]))
            }
            Kind::NonBlocking => {
                let (from, to) = pipe().unwrap();
                // SAFETY: takes no pointer.
                unsafe { libc::fcntl(to.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
                for fd in [from.as_raw_fd(), to.as_raw_fd()] {
                    set_nonblocking(fd);
                }
                if self.writes() {
                    let got = Started::later(move || everything(from));
                    (to.into_raw_fd(), Other::Got(vec![got]))
                } else {
                    feed(&to, 3_000);
                    // Kept open, so that there is no end but "not now".
                    let kept = Started::later(move || {
                        drop(to);
                        Vec::new()
                    });
                    (from.into_raw_fd(), Other::Got(vec![kept]))
                }
            }
            Kind::Socket => {
                let (ours, others) = UnixStream::pair().unwrap();
                // All before: what was read ahead is lost where a call writes, and how much
                // that is would be chance.
                feed(&others, 20_000);
                others.shutdown(std::net::Shutdown::Write).unwrap();
                let got = on.go(move || everything(others));
                (ours.into_raw_fd(), Other::Got(vec![got]))
            }
            Kind::Terminal => {
                let (slave, master) = terminal();
                let got = on.go(move || everything(master));
                (slave.into_raw_fd(), Other::Got(vec![got]))
            }
        }
    }

    fn run(&self, on: On, name: &str) -> (Vec<Said>, Vec<u8>) {
        let (fd, other) = self.begin(on, name);
        // SAFETY: a descriptor that is given away, a C string.
        let file = unsafe { libc::fdopen(fd, MODES[self.mode].as_ptr()) };
        assert!(!file.is_null());
        let path = match &other {
            Other::Regular(path) => path.clone(),
            _ => CString::default(),
        };
        let mut subject = Subject {
            file,
            path,
            buffers: Vec::new(),
        };
        let mut said: Vec<_> = self.calls.iter().map(|call| subject.make(call)).collect();
        // SAFETY: an open file, which is not used any more.
        let closed = unsafe { libc::fclose(subject.file) };
        said.push((closed.into(), 0, false, false, Vec::new()));
        let bytes = match other {
            Other::Regular(path) => {
                let path = path.to_str().unwrap();
                let bytes = std::fs::read(path).unwrap();
                std::fs::remove_file(path).unwrap();
                bytes
            }
            Other::Got(got) => got.into_iter().flat_map(Started::join).collect(),
        };
        (said, bytes)
    }
}

/// Runs it in a coroutine of a kind.
fn in_a_coroutine(seed: usize, own: bool) -> (Vec<Said>, Vec<u8>) {
    let name = format!("{}-{seed}-{own}", std::process::id());
    std::thread::spawn(move || {
        crore::run(move || {
            let builder = crore::Builder::new().own_thread_locals(own);
            let run = move || Scenario::new(seed).run(On::Coroutines, &name);
            builder.spawn(run).unwrap().join().unwrap()
        })
        .unwrap()
    })
    .join()
    .unwrap()
}

#[test]
fn any_calls_say_what_they_say_on_threads() {
    let seeds = std::env::var("CRORE_STDIO_SEEDS").map_or(300, |count| count.parse().unwrap());
    let has_own = has_own_locals();
    for seed in 0..seeds {
        let scenario = Scenario::new(seed);
        let name = format!("{}-{seed}", std::process::id());
        let plain = std::thread::spawn(move || Scenario::new(seed).run(On::Threads, &name));
        let plain = plain.join().unwrap();
        let ours = in_a_coroutine(seed, has_own && seed % 3 == 0);
        let what = format!(
            "seed {seed}: {:?}, {:?}",
            scenario.kind, MODES[scenario.mode]
        );
        for (at, (ours, plain)) in ours.0.iter().zip(&plain.0).enumerate() {
            assert_eq!(ours, plain, "{what}: {at} of {:?}", scenario.calls);
        }
        assert!(
            ours.1 == plain.1,
            "{what}: the other side, {:?}",
            scenario.calls
        );
    }
}
