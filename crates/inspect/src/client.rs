//! The side that asks.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use crate::{PATIENCE, Question, address, peer};

/// What a process answers.
///
/// # Errors
///
/// `ConnectionRefused`: the process does not [serve](crate::serve), or there is none.
/// `PermissionDenied`: it is another user's. `TimedOut` or `WouldBlock`: it does not
/// answer.
pub fn ask(process: u32, question: Question) -> io::Result<String> {
    let mut stream = UnixStream::connect_addr(&address(process)?)?;
    if !peer::is_trusted(&stream)? {
        let text = "another user answers in its place";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(question.line().as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.is_empty() {
        true => Err(io::ErrorKind::PermissionDenied.into()),
        false => Ok(answer),
    }
}
