//! The functions on `FILE`s that have no test of their own: wide characters, words,
//! positions, kinds of buffers, formatted input; each while another coroutine is at the
//! other end.

#![cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
#![allow(clippy::incompatible_msrv, reason = "tests may use what is younger")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io::{Read, Write, pipe};
use std::os::fd::IntoRawFd;
use std::process::{Command, Stdio};

use libc::{FILE, wchar_t};

use crate::common::with_own_locals;
use crate::hook_common::{On, Started, same};

/// `wint_t`.
type WideInt = c_uint;

unsafe extern "C" {
    static stdin: *mut FILE;
    static stdout: *mut FILE;
    fn getw(file: *mut FILE) -> c_int;
    fn putw(word: c_int, file: *mut FILE) -> c_int;
    fn __underflow(file: *mut FILE) -> c_int;
    fn fgetwc(file: *mut FILE) -> WideInt;
    fn getwc(file: *mut FILE) -> WideInt;
    fn getwchar() -> WideInt;
    fn fgetws(to: *mut wchar_t, room: c_int, file: *mut FILE) -> *mut wchar_t;
    fn ungetwc(wide: WideInt, file: *mut FILE) -> WideInt;
    fn fgetwc_unlocked(file: *mut FILE) -> WideInt;
    fn getwc_unlocked(file: *mut FILE) -> WideInt;
    fn getwchar_unlocked() -> WideInt;
    fn fgetws_unlocked(to: *mut wchar_t, room: c_int, file: *mut FILE) -> *mut wchar_t;
    fn fputwc(wide: wchar_t, file: *mut FILE) -> WideInt;
    fn putwc(wide: wchar_t, file: *mut FILE) -> WideInt;
    fn putwchar(wide: wchar_t) -> WideInt;
    fn fputws(text: *const wchar_t, file: *mut FILE) -> c_int;
    fn fputwc_unlocked(wide: wchar_t, file: *mut FILE) -> WideInt;
    fn putwc_unlocked(wide: wchar_t, file: *mut FILE) -> WideInt;
    fn putwchar_unlocked(wide: wchar_t) -> WideInt;
    fn fputws_unlocked(text: *const wchar_t, file: *mut FILE) -> c_int;
    fn wprintf(format: *const wchar_t, ...) -> c_int;
    fn __wprintf_chk(flag: c_int, format: *const wchar_t, ...) -> c_int;
    fn vwprintf(format: *const wchar_t, all: *mut c_void) -> c_int;
    fn __vwprintf_chk(flag: c_int, format: *const wchar_t, all: *mut c_void) -> c_int;
    fn fwprintf(file: *mut FILE, format: *const wchar_t, ...) -> c_int;
    fn __fwprintf_chk(file: *mut FILE, flag: c_int, format: *const wchar_t, ...) -> c_int;
    fn vfwprintf(file: *mut FILE, format: *const wchar_t, all: *mut c_void) -> c_int;
    fn __vfwprintf_chk(
        file: *mut FILE,
        flag: c_int,
        format: *const wchar_t,
        all: *mut c_void,
    ) -> c_int;
    fn fseeko64(file: *mut FILE, to: i64, from: c_int) -> c_int;
    fn ftello64(file: *mut FILE) -> i64;
    fn fgetpos64(file: *mut FILE, at: *mut [u8; 16]) -> c_int;
    fn fsetpos64(file: *mut FILE, at: *const [u8; 16]) -> c_int;
    fn fgetpos(file: *mut FILE, at: *mut [u8; 16]) -> c_int;
    fn fsetpos(file: *mut FILE, at: *const [u8; 16]) -> c_int;
    fn setbuf(file: *mut FILE, buffer: *mut c_char);
    fn setbuffer(file: *mut FILE, buffer: *mut c_char, size: usize);
    fn setlinebuf(file: *mut FILE);
    fn fscanf(file: *mut FILE, format: *const c_char, ...) -> c_int;
    fn scanf(format: *const c_char, ...) -> c_int;
    fn vfscanf(file: *mut FILE, format: *const c_char, all: *mut c_void) -> c_int;
    fn vscanf(format: *const c_char, all: *mut c_void) -> c_int;
    fn __isoc99_fscanf(file: *mut FILE, format: *const c_char, ...) -> c_int;
    fn __isoc99_scanf(format: *const c_char, ...) -> c_int;
    fn __isoc99_vfscanf(file: *mut FILE, format: *const c_char, all: *mut c_void) -> c_int;
    fn __isoc99_vscanf(format: *const c_char, all: *mut c_void) -> c_int;
    fn freopen64(path: *const c_char, mode: *const c_char, file: *mut FILE) -> *mut FILE;
}

fn file(fd: impl IntoRawFd, mode: &CStr) -> *mut FILE {
    // SAFETY: a descriptor that is given away.
    let file = unsafe { libc::fdopen(fd.into_raw_fd(), mode.as_ptr()) };
    assert!(!file.is_null());
    file
}

/// A file that somebody else writes to, piece by piece.
fn fed(on: On, pieces: &'static [&'static [u8]]) -> (*mut FILE, Started<()>) {
    let (from, mut to) = pipe().unwrap();
    let writer = on.go(move || {
        for piece in pieces {
            to.write_all(piece).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    });
    (file(from, c"r"), writer)
}

/// A file that somebody else reads.
fn read(on: On) -> (*mut FILE, Started<Vec<u8>>) {
    let (mut from, to) = pipe().unwrap();
    let reader = on.go(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    });
    (file(to, c"w"), reader)
}

fn wide(text: &str) -> Vec<wchar_t> {
    text.chars().map(|one| one as wchar_t).chain([0]).collect()
}

#[test]
fn wide_characters() {
    same(|on| {
        let (from, writer) = fed(
            on,
            &[b"a", b"bcde", b"line ", b"one\nli", b"ne two\n", b"x"],
        );
        let mut out = Vec::new();
        let mut place = [0 as wchar_t; 20];
        // SAFETY: files of ours, places with room.
        unsafe {
            for way in [fgetwc, getwc, fgetwc_unlocked, getwc_unlocked] {
                out.push(way(from));
            }
            out.push(ungetwc(c_uint::from(b'z'), from));
            for way in [fgetws, fgetws_unlocked] {
                out.push(c_uint::from(!way(place.as_mut_ptr(), 20, from).is_null()));
                out.extend(place.map(|one| one as c_uint));
            }
            out.push(fgetwc(from));
            out.push(fgetwc(from));
            out.push(libc::feof(from) as c_uint);
            libc::fclose(from);
        }
        writer.join();
        let (to, reader) = read(on);
        let text = wide("some text\n");
        // SAFETY: a file of ours, text with its end.
        unsafe {
            for _ in 0..2_000 {
                for way in [fputwc, putwc, fputwc_unlocked, putwc_unlocked] {
                    out.push(way(wchar_t::from(b'w'), to));
                }
                for way in [fputws, fputws_unlocked] {
                    out.push(way(text.as_ptr(), to) as c_uint);
                }
            }
            let (format, words) = (wide("%d\n"), [7]);
            let format = format.as_ptr();
            let mut print = |printed: c_int| out.push(printed as c_uint);
            print(fwprintf(to, format, 7));
            print(__fwprintf_chk(to, 1, format, 7));
            print(vfwprintf(to, format, list(&words).as_mut_ptr().cast()));
            print(__vfwprintf_chk(
                to,
                1,
                format,
                list(&words).as_mut_ptr().cast(),
            ));
            libc::fclose(to);
        }
        (out, reader.join())
    });
}

#[test]
fn words_and_what_is_next() {
    same(|on| {
        let (from, writer) = fed(on, &[&[1, 0], &[0, 0, 7], &[7, 7, 7]]);
        let (to, reader) = read(on);
        // SAFETY: files of ours.
        let out = unsafe {
            let next = __underflow(from);
            let got = [getw(from), getw(from), getw(from), libc::feof(from)];
            let put = (0..40_000).map(|word| putw(word, to)).sum::<c_int>();
            libc::fclose(from);
            libc::fclose(to);
            (next, got, put)
        };
        writer.join();
        (out, reader.join())
    });
}

#[test]
fn positions() {
    same(|on| {
        let path = std::env::temp_dir().join(format!("crore-names-{}-{on:?}", std::process::id()));
        std::fs::write(&path, "0123456789").unwrap();
        let on_disk = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let file = file(on_disk, c"r+");
        let mut at = [0; 16];
        let mut out = Vec::new();
        // SAFETY: a file of ours, places for positions.
        unsafe {
            out.push(libc::fseek(file, 2, libc::SEEK_SET).into());
            out.push(libc::fgetc(file).into());
            out.push(libc::ftell(file) as i64);
            out.push(fgetpos(file, &mut at).into());
            out.push(libc::fputc(b'x'.into(), file).into());
            out.push(fseeko64(file, -1, libc::SEEK_CUR).into());
            out.push(libc::fgetc(file).into());
            out.push(ftello64(file));
            out.push(fsetpos(file, &at).into());
            out.push(libc::fgetc(file).into());
            out.push(fgetpos64(file, &mut at).into());
            libc::rewind(file);
            out.push(libc::fgetc(file).into());
            out.push(fsetpos64(file, &at).into());
            out.push(libc::fgetc(file).into());
            out.push(libc::fseeko(file, 0, libc::SEEK_END).into());
            out.push(libc::ftello(file));
            out.push(libc::fclose(file).into());
        }
        let all = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        (out, all)
    });
}

#[test]
fn kinds_of_buffers() {
    same(|on| {
        let (to, reader) = read(on);
        let mut place = vec![0 as c_char; 8192];
        // SAFETY: a file of ours, a place of that size.
        unsafe {
            setbuffer(to, place.as_mut_ptr(), 10);
            libc::fputs(c"more than ten".as_ptr(), to);
            setlinebuf(to);
            libc::fputs(c"a line\nand".as_ptr(), to);
            setbuf(to, place.as_mut_ptr());
            libc::fputs(c"the rest".as_ptr(), to);
            let again = freopen64(c"/dev/null".as_ptr(), c"w".as_ptr(), to) == to;
            let lost = libc::fputs(c"lost".as_ptr(), to);
            (again, lost, libc::fclose(to), reader.join())
        }
    });
}

/// A `va_list` of words in memory: all registers are used up.
fn list(words: &[usize]) -> [usize; 4] {
    let at = words.as_ptr().expose_provenance();
    match cfg!(target_arch = "x86_64") {
        true => [48 | (176 << 32), at, 0, 0],
        false => [at, at, at, 0],
    }
}

#[test]
fn formatted_input() {
    same(|on| {
        let (from, writer) = fed(on, &[b"1 one ", b"2 two ", b"3 three ", b"4 four ", b"end"]);
        let mut out = Vec::new();
        // SAFETY: a file of ours, formats and places for their results.
        unsafe {
            for way in 0..5 {
                let (mut number, mut word) = (0_i32, [0_u8; 9]);
                let format = c"%d%8s".as_ptr();
                let to = (&raw mut number, word.as_mut_ptr());
                let words = [to.0.expose_provenance(), to.1.expose_provenance()];
                let mut all = list(&words);
                let all = all.as_mut_ptr().cast();
                let got = match way {
                    0 => fscanf(from, format, to.0, to.1),
                    1 => __isoc99_fscanf(from, format, to.0, to.1),
                    2 => vfscanf(from, format, all),
                    _ => __isoc99_vfscanf(from, format, all),
                };
                out.push((got, number, word, libc::feof(from), libc::ferror(from)));
                // What ends a word comes with it.
                libc::fgetc(from);
            }
            libc::fclose(from);
        }
        writer.join();
        out
    });
}

/// The process's own: in a child, whose standard streams are pipes.
#[test]
fn standard_streams() {
    if let Ok(kind) = std::env::var("CRORE_NAMES_CHILD") {
        let echo = || {
            // SAFETY: libc's own files, formats and places for their results.
            unsafe {
                let (mut a, mut b, mut c, mut d) = (0, 0, 0, 0);
                let format = c"%d".as_ptr();
                let mut got = scanf(format, &raw mut a);
                got += __isoc99_scanf(format, &raw mut b);
                let places = [
                    (&raw mut c).expose_provenance(),
                    (&raw mut d).expose_provenance(),
                ];
                got += vscanf(format, list(&places).as_mut_ptr().cast());
                got += __isoc99_vscanf(format, list(&places[1..]).as_mut_ptr().cast());
                let dev = libc::freopen(c"/dev/null".as_ptr(), c"r".as_ptr(), stdin);
                let none = [getwchar(), getwchar_unlocked()];
                let ends = dev == stdin && none == [c_uint::MAX; 2];
                putwchar(wchar_t::from(b'>'));
                putwchar_unlocked(wchar_t::from(b'>'));
                for number in [a, b, c, d, got, c_int::from(ends)] {
                    putwchar(wchar_t::from(b'0') + number as wchar_t);
                }
                let (format, words) = (wide("%d"), [7]);
                let format = format.as_ptr();
                wprintf(format, 7);
                __wprintf_chk(1, format, 7);
                vwprintf(format, list(&words).as_mut_ptr().cast());
                __vwprintf_chk(1, format, list(&words).as_mut_ptr().cast());
                libc::fflush(stdout);
            }
        };
        let own = kind == "own";
        crore::run(move || {
            let builder = crore::Builder::new().own_thread_locals(own);
            builder.spawn(echo).unwrap().join().unwrap();
        })
        .unwrap();
        std::process::exit(0);
    }
    for (kind, _) in ["plain", "own"].into_iter().zip(with_own_locals()) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stdio_names::standard_streams", "--nocapture"])
            .env("CRORE_NAMES_CHILD", kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        for piece in ["1 ", "2 ", "3 ", "4 "] {
            input.write_all(piece.as_bytes()).unwrap();
        }
        drop(input);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.ends_with(">>1234417777"), "{kind}: {text}");
    }
}
