//! Threads that had better stay the kernel's, as a run before found: their patterns, a line
//! each of a file.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// The patterns; none if the file is not there yet.
pub(crate) fn read(path: &Path) -> io::Result<Vec<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Notes a pattern, once. What can't be written is learnt by another run.
pub(crate) fn note(path: &Path, pattern: &str) {
    let known = read(path).is_ok_and(|known| known.iter().any(|one| one == pattern));
    let file = OpenOptions::new().append(true).create(true).open(path);
    if let (false, Ok(mut file)) = (known, file) {
        let _ = file.write_all(format!("{pattern}\n").as_bytes());
    }
}
