//! Whether a program can be run so: said before it does anything, in one line.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

mod elf;

use elf::Elf;

/// Interpreters of interpreters of scripts.
const DEPTH: usize = 4;

/// The file that runs, in the end: of a script its interpreter.
///
/// # Errors
///
/// Why not, in words.
pub(crate) fn program(name: &Path) -> Result<PathBuf, String> {
    let path = find(name).ok_or(format!("{}: not found", name.display()))?;
    let file = interpreter(path, DEPTH)?;
    look_at(&file).map_err(|why| format!("{}: {why}", file.display()))?;
    // Of this very glibc, which the program has, too, and of the processor.
    crore::local::own_thread_locals().map_err(|why| why.to_string())?;
    Ok(file)
}

/// As `execvp` finds it.
fn find(name: &Path) -> Option<PathBuf> {
    let runs = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    if name.as_os_str().as_bytes().contains(&b'/') {
        return Some(name.to_owned()).filter(runs);
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(runs)
}

/// Follows `#!`.
fn interpreter(path: PathBuf, depth: usize) -> Result<PathBuf, String> {
    let mut head = Vec::new();
    let read = fs::File::open(&path).and_then(|file| file.take(256).read_to_end(&mut head));
    read.map_err(|why| format!("{}: {why}", path.display()))?;
    let Some(line) = head.strip_prefix(b"#!") else {
        return Ok(path);
    };
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut words = line
        .split(|byte| b" \t".contains(byte))
        .filter(|word| !word.is_empty());
    let first = Path::new(OsStr::from_bytes(words.next().unwrap_or_default()));
    // `#!/usr/bin/env python3` is about python3.
    let named = match first.file_name() {
        Some(env) if env == "env" => words.find(|word| !word.starts_with(b"-")),
        _ => None,
    };
    let next = named.map_or(first.to_owned(), |name| OsStr::from_bytes(name).into());
    let found = find(&next).ok_or(format!(
        "{}: no interpreter {}",
        path.display(),
        next.display()
    ));
    match depth {
        0 => Err(format!("{}: scripts of scripts of scripts", path.display())),
        _ => interpreter(found?, depth - 1),
    }
}

fn look_at(path: &Path) -> Result<(), String> {
    let mode = fs::metadata(path)
        .map_err(|why| why.to_string())?
        .permissions()
        .mode();
    if mode & 0o6000 != 0 || has_capabilities(path) {
        return Err(
            "it has rights of its own (setuid, setgid or capabilities), and the dynamic linker \
             loads no library into such a program"
                .into(),
        );
    }
    let bytes = fs::read(path).map_err(|why| why.to_string())?;
    let elf = Elf::parse(&bytes).ok_or("it is no program for 64-bit Linux on x86_64")?;
    // Go's are mostly static, but that is not the reason.
    if elf.has_section(b".go.buildinfo") || elf.has_section(b".note.go.buildid") {
        return Err(
            "it is written in Go, which has coroutines of its own and makes system calls without \
             libc"
                .into(),
        );
    }
    match elf.linker() {
        None => Err("it is linked statically: there is no call of libc's to stand in for".into()),
        Some(linker) if contains(linker, b"ld-musl") => {
            Err("its C library is musl; threads can be coroutines with glibc".into())
        }
        Some(linker) if contains(linker, b"ld-linux-x86-64") => Ok(()),
        Some(linker) => Err(format!(
            "its dynamic linker is {}, not glibc's",
            String::from_utf8_lossy(linker)
        )),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let name = c"security.capability";
    // SAFETY: strings; no place, only the length is asked for.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
}
