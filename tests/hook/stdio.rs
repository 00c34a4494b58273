//! The rows of the hooks' table about `FILE`s: what is read from a pipe piece by piece,
//! and what a pipe has no room for, while another coroutine is at its other end.

#![allow(clippy::incompatible_msrv, reason = "tests may use what is younger")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::IntoRawFd;
use std::ptr::null_mut;

use libc::FILE;

use crate::common::kinds;
use crate::hook_common::{On, Started, in_coroutines, pattern, same};

unsafe extern "C" {
    static stdin: *mut FILE;
    fn _IO_getc(file: *mut FILE) -> c_int;
    fn getc(file: *mut FILE) -> c_int;
    fn fgetc_unlocked(file: *mut FILE) -> c_int;
    fn getc_unlocked(file: *mut FILE) -> c_int;
    fn getchar_unlocked() -> c_int;
    fn __uflow(file: *mut FILE) -> c_int;
    fn __overflow(file: *mut FILE, byte: c_int) -> c_int;
    fn fgets_unlocked(to: *mut c_char, room: c_int, file: *mut FILE) -> *mut c_char;
    fn __fgets_chk(to: *mut c_char, size: usize, room: c_int, file: *mut FILE) -> *mut c_char;
    fn __fgets_unlocked_chk(
        to: *mut c_char,
        size: usize,
        room: c_int,
        file: *mut FILE,
    ) -> *mut c_char;
    fn fread_unlocked(to: *mut c_void, size: usize, count: usize, file: *mut FILE) -> usize;
    fn __fread_chk(
        to: *mut c_void,
        max: usize,
        size: usize,
        count: usize,
        file: *mut FILE,
    ) -> usize;
    fn __fread_unlocked_chk(
        to: *mut c_void,
        max: usize,
        size: usize,
        count: usize,
        file: *mut FILE,
    ) -> usize;
    fn getdelim(line: *mut *mut c_char, room: *mut usize, last: c_int, file: *mut FILE) -> isize;
    fn __getdelim(line: *mut *mut c_char, room: *mut usize, last: c_int, file: *mut FILE) -> isize;
    fn putc(byte: c_int, file: *mut FILE) -> c_int;
    fn _IO_putc(byte: c_int, file: *mut FILE) -> c_int;
    fn fputc_unlocked(byte: c_int, file: *mut FILE) -> c_int;
    fn putc_unlocked(byte: c_int, file: *mut FILE) -> c_int;
    fn fwrite_unlocked(from: *const c_void, size: usize, count: usize, file: *mut FILE) -> usize;
    fn fputs_unlocked(text: *const c_char, file: *mut FILE) -> c_int;
    fn fflush_unlocked(file: *mut FILE) -> c_int;
    fn vfprintf(file: *mut FILE, format: *const c_char, all: *mut c_void) -> c_int;
    fn vdprintf(fd: c_int, format: *const c_char, all: *mut c_void) -> c_int;
}

fn file(fd: impl IntoRawFd, mode: &std::ffi::CStr) -> *mut FILE {
    // SAFETY: a descriptor that is given away.
    let file = unsafe { libc::fdopen(fd.into_raw_fd(), mode.as_ptr()) };
    assert!(!file.is_null());
    file
}

/// What may be sent to another coroutine or thread.
struct Moved(*mut FILE);
// SAFETY: libc locks it.
unsafe impl Send for Moved {}

/// Somebody else writes the pieces one after the other, each once the reader waits for
/// it or has gone on.
fn fed(on: On, pieces: &'static [&'static str]) -> (*mut FILE, Started<()>) {
    let (from, mut to) = pipe().unwrap();
    let writer = on.go(move || {
        for piece in pieces {
            to.write_all(piece.as_bytes()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    });
    (file(from, c"r"), writer)
}

const PIECES: &[&str] = &["first l", "ine\nsecond", " line\n\n", "la", "st"];

#[test]
fn lines_that_come_in_pieces() {
    same(|on| {
        let mut out = Vec::new();
        for way in 0..4 {
            let (file, writer) = fed(on, PIECES);
            loop {
                let mut line = [7_u8 as c_char; 12];
                let to = line.as_mut_ptr();
                // SAFETY: a place of that size, a file of ours.
                let got = unsafe {
                    match way {
                        0 => libc::fgets(to, 12, file),
                        1 => fgets_unlocked(to, 12, file),
                        2 => __fgets_chk(to, 12, 12, file),
                        _ => __fgets_unlocked_chk(to, 12, 12, file),
                    }
                };
                out.push(line.to_vec());
                if got.is_null() {
                    break;
                }
            }
            let mut byte = 0;
            // SAFETY: as above; a place.
            out.push(unsafe {
                let end = libc::feof(file) != 0 && libc::ferror(file) == 0;
                let one = libc::fgets(&mut byte, 1, file) == &raw mut byte && byte == 0;
                let none = libc::fgets(&mut byte, 0, file).is_null();
                libc::fclose(file);
                vec![c_char::from(end), c_char::from(one), c_char::from(none)]
            });
            writer.join();
        }
        out
    });
}

#[test]
fn lines_of_any_length() {
    same(|on| {
        let mut out = Vec::new();
        for way in 0..3 {
            let (file, writer) = fed(on, PIECES);
            let (mut line, mut room) = (null_mut(), 0);
            loop {
                // SAFETY: places, a file of ours.
                let got = unsafe {
                    match way {
                        0 => libc::getline(&mut line, &mut room, file),
                        1 => getdelim(&mut line, &mut room, c_int::from(b'n'), file),
                        _ => __getdelim(&mut line, &mut room, c_int::from(b'l'), file),
                    }
                };
                if got < 0 {
                    break;
                }
                // SAFETY: so much is there, and a 0.
                let bytes =
                    unsafe { std::slice::from_raw_parts(line.cast::<u8>(), got as usize + 1) };
                out.push(String::from_utf8(bytes.to_vec()).unwrap());
            }
            // SAFETY: of `malloc`, or null; a file of ours.
            unsafe {
                libc::free(line.cast());
                libc::fclose(file);
            }
            writer.join();
        }
        out
    });
}

#[test]
fn bytes_and_blocks() {
    same(|on| {
        let (from, mut to) = pipe().unwrap();
        let bytes = pattern(20_000);
        let all = bytes.clone();
        let writer = on.go(move || {
            for piece in all.chunks(1777) {
                to.write_all(piece).unwrap();
                std::thread::yield_now();
            }
        });
        let file = file(from, c"r");
        let mut got = Vec::new();
        let mut place = vec![0_u8; 20_000];
        let block = place.as_mut_ptr().cast();
        // SAFETY: a file of ours, and room for so much.
        unsafe {
            // As C's macro calls it: while the buffer is empty.
            got.push(__uflow(file) as u8);
            let ways = [libc::fgetc, getc, _IO_getc, fgetc_unlocked, getc_unlocked];
            for way in ways.iter().cycle().take(600) {
                got.push(way(file) as u8);
            }
            libc::ungetc(c_int::from(got.pop().unwrap()), file);
            let reads = [
                libc::fread(block, 3, 1000, file) * 3,
                fread_unlocked(block.add(3000), 1, 5000, file),
                __fread_chk(block.add(8000), 9000, 1, 1000, file),
                __fread_unlocked_chk(block.add(9000), 9000, 10, 100, file) * 10,
                libc::fread(block.add(10_000), 1, 0, file),
                libc::fread(block.add(10_000), 1, 10_000, file),
            ];
            got.extend_from_slice(&place[..reads.iter().sum()]);
            let end = (libc::feof(file) != 0, libc::fgetc(file));
            libc::fclose(file);
            writer.join();
            (got == bytes, reads, end)
        }
    });
}

#[test]
fn files_without_a_buffer_and_errors() {
    same(|on| {
        let (from, mut to) = pipe().unwrap();
        let writer = on.go(move || {
            for piece in ["ab", "cd\n", "rest"] {
                to.write_all(piece.as_bytes()).unwrap();
                std::thread::yield_now();
            }
            to
        });
        let reader = file(from, c"r");
        let mut place = [0_u8; 16];
        let to = place.as_mut_ptr();
        // SAFETY: files of ours, places with room.
        unsafe {
            libc::setvbuf(reader, null_mut(), libc::_IONBF, 0);
            let first = libc::fgetc(reader);
            let line = !libc::fgets(to.cast(), 10, reader).is_null();
            let four = libc::fread(to.add(8).cast(), 1, 4, reader);
            let writer = writer.join();
            let number = libc::fileno(reader);
            libc::fcntl(number, libc::F_SETFL, libc::O_NONBLOCK);
            let none = (
                libc::fgetc(reader),
                std::io::Error::last_os_error().raw_os_error(),
            );
            let flagged = libc::ferror(reader) != 0;
            libc::clearerr(reader);
            drop(writer);
            let end = (libc::fgetc(reader), libc::feof(reader) != 0);
            libc::fclose(reader);
            let out = file(pipe().unwrap().1, c"w");
            let not_read = (
                libc::fgetc(out),
                std::io::Error::last_os_error().raw_os_error(),
            );
            libc::fclose(out);
            (first, line, four, none, flagged, end, not_read, place)
        }
    });
}

/// A file on a pipe that has no room left but in its buffer, and what reads the pipe.
fn full(on: On) -> (*mut FILE, Started<Vec<u8>>) {
    let (from, to) = pipe().unwrap();
    (file(to, c"w"), drained(on, from))
}

fn drained(on: On, mut from: PipeReader) -> Started<Vec<u8>> {
    on.go(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    })
}

/// A `va_list` of words in memory: all registers are used up.
struct Words([usize; 4], Vec<usize>);

impl Words {
    fn new(words: &[usize]) -> Self {
        let words = words.to_vec();
        let at = words.as_ptr().expose_provenance();
        let list = match cfg!(target_arch = "x86_64") {
            true => [(48) | (176 << 32), at, 0, 0],
            false => [at, at, at, 0],
        };
        Self(list, words)
    }

    fn list(&mut self) -> *mut c_void {
        let _ = &self.1;
        self.0.as_mut_ptr().cast()
    }
}

#[test]
fn what_a_pipe_has_no_room_for() {
    same(|on| {
        let bytes = pattern(300_000);
        let (file, reader) = full(on);
        let text = CString::new(vec![b't'; 200_000]).unwrap();
        let mut out = Vec::new();
        // SAFETY: a file of ours, valid texts and bytes.
        unsafe {
            for way in [libc::fputc, putc, _IO_putc, fputc_unlocked, putc_unlocked] {
                out.push(way(c_int::from(b'x'), file) as isize);
            }
            out.push(libc::fwrite(bytes.as_ptr().cast(), 1, 10, file) as isize);
            out.push(libc::fwrite(bytes.as_ptr().cast(), 3, 100_000, file) as isize);
            out.push(fwrite_unlocked(bytes.as_ptr().cast(), 1000, 300, file) as isize);
            out.push(libc::fputs(text.as_ptr(), file) as isize);
            out.push(fputs_unlocked(text.as_ptr(), file) as isize);
            let format = c"%d-%s|%lx";
            let mut words = Words::new(&[7, text.as_ptr().addr(), 255]);
            out.push(vfprintf(file, format.as_ptr(), words.list()) as isize);
            for byte in 0..9000 {
                libc::fputc(byte & 0x7f, file);
            }
            out.push(libc::fflush(file) as isize);
            out.push(__overflow(file, c_int::from(b'o')) as isize);
            out.push(fflush_unlocked(file) as isize);
            let mut words = Words::new(&[8, text.as_ptr().addr(), 16]);
            let number = libc::fileno(file);
            out.push(vdprintf(number, format.as_ptr(), words.list()) as isize);
            out.push(libc::fclose(file) as isize);
        }
        let all = reader.join();
        let sum = all
            .iter()
            .fold(0_u64, |sum, &byte| sum.wrapping_mul(31) + u64::from(byte));
        (out, all.len(), sum)
    });
}

#[test]
fn buffers_of_each_kind() {
    same(|on| {
        let mut out = Vec::new();
        for kind in [libc::_IONBF, libc::_IOLBF, libc::_IOFBF] {
            let (from, to): (PipeReader, PipeWriter) = pipe().unwrap();
            let writer = file(to, c"w");
            let there = || {
                let mut count = 0;
                // SAFETY: a place.
                unsafe {
                    libc::ioctl(
                        std::os::fd::AsRawFd::as_raw_fd(&from),
                        libc::FIONREAD,
                        &mut count,
                    )
                };
                count
            };
            // SAFETY: a file of ours, valid texts.
            unsafe {
                libc::setvbuf(writer, null_mut(), kind, 64);
                for text in [
                    c"one",
                    c" line\n",
                    c"two",
                    c"\n",
                    c"more than the buffer has room for, by far: 64",
                ] {
                    libc::fputs(text.as_ptr(), writer);
                    out.push(there());
                }
                out.push(libc::fflush(writer));
                out.push(there());
                libc::fclose(writer);
            }
            out.push(drained(on, from).join().len() as i32);
        }
        out
    });
}

#[test]
fn a_pipe_without_a_reader() {
    same(|_| {
        let (from, to) = pipe().unwrap();
        drop(from);
        let writer = file(to, c"w");
        // SAFETY: a file of ours.
        unsafe {
            let first = libc::fputs(c"text".as_ptr(), writer);
            let flushed = (
                libc::fflush(writer),
                std::io::Error::last_os_error().raw_os_error(),
            );
            let flagged = libc::ferror(writer) != 0;
            libc::fclose(writer);
            (first, flushed, flagged)
        }
    });
}

#[test]
fn a_cancelled_read_fails() {
    in_coroutines(|_| {
        let (from, _to) = pipe().unwrap();
        let reader = Moved(file(from, c"r"));
        let waits = crore::spawn(move || {
            let reader = { reader }.0;
            // SAFETY: a file of ours.
            unsafe {
                let got = libc::fgetc(reader);
                let code = std::io::Error::last_os_error().raw_os_error();
                let flagged = libc::ferror(reader) != 0;
                libc::fclose(reader);
                (got, code, flagged)
            }
        });
        crore::yield_now();
        waits.cancel();
        assert_eq!(waits.join().unwrap(), (-1, Some(libc::ECANCELED), true));
    });
}

/// The process's own: in a child, whose standard streams are pipes.
#[test]
fn standard_streams() {
    if let Ok(name) = std::env::var("CRORE_STDIO_CHILD") {
        let kind = kinds().find(|kind| format!("{kind:?}") == name);
        let echo = || {
            // SAFETY: libc's own files.
            unsafe {
                let got = [libc::getchar(), getchar_unlocked()];
                let mut rest = [0 as c_char; 100];
                libc::fgets(rest.as_mut_ptr(), 100, stdin);
                libc::putchar(got[0]);
                putchar_unlocked(got[1]);
                libc::puts(rest.as_ptr());
                let mut words = Words::new(&[5]);
                vprintf(c"%d\n".as_ptr(), words.list());
                libc::fflush(null_mut());
            }
        };
        crore::run(move || kind.expect("a kind").spawn(echo).join().unwrap()).unwrap();
        std::process::exit(0);
    }
    for kind in kinds().map(|kind| format!("{kind:?}")) {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stdio::standard_streams", "--nocapture"])
            .env("CRORE_STDIO_CHILD", &kind)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        for piece in ["a", "bc", "d", "ef\n"] {
            input.write_all(piece.as_bytes()).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("abcdef\n\n5\n"), "{kind}: {text}");
    }
}

unsafe extern "C" {
    fn putchar_unlocked(byte: c_int) -> c_int;
    fn vprintf(format: *const c_char, all: *mut c_void) -> c_int;
}
