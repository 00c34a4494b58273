//! Services of small requests of which many are on their way at once: what they ask and
//! answer. The servers are in `serve/pipelined.rs`.
//!
//! All requests of a service have one length, and all of its answers, so a client counts
//! bytes and compares them. They come round after a number that no client's window divides,
//! and differ: one that is lost or answered twice is seen.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::sync::LazyLock;
use std::thread;

/// Different requests, and keys in the store.
pub const CYCLE: usize = 997;

/// Bytes of a request of the stream, and of a value in the store.
const MESSAGE: usize = 512;
const VALUE: usize = 32;

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n\
                      Hello, World!";

static STORE: LazyLock<HashMap<Vec<u8>, Vec<u8>>> =
    LazyLock::new(|| (0..CYCLE).map(|at| (key(at), random(at, VALUE))).collect());

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// What came goes back, 512 bytes a request.
    Stream,
    /// `GET /plaintext` of HTTP/1.1.
    Http,
    /// `GET` of one of [`CYCLE`] keys in memory, as Redis has it.
    Get,
}

impl Service {
    pub const ALL: [Self; 3] = [Self::Stream, Self::Http, Self::Get];

    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Http => "http",
            Self::Get => "get",
        }
    }

    /// The request at a place of the cycle, and its answer.
    pub fn example(self, at: usize) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Stream => (random(at, MESSAGE), random(at, MESSAGE)),
            Self::Http => {
                let request = b"GET /plaintext HTTP/1.1\r\nHost: server\r\n\r\n";
                (request.to_vec(), PAGE.to_vec())
            }
            Self::Get => {
                let mut request = b"*2\r\n$3\r\nGET\r\n".to_vec();
                push_bulk(&mut request, &key(at));
                let mut answer = Vec::new();
                push_bulk(&mut answer, &random(at, VALUE));
                (request, answer)
            }
        }
    }

    /// Answers the whole requests at the beginning of `input`; returns how many bytes they
    /// are.
    ///
    /// # Errors
    ///
    /// What is no request.
    pub fn answer(self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        let mut done = 0;
        match self {
            Self::Stream => {
                output.extend_from_slice(input);
                done = input.len();
            }
            Self::Http => {
                while let Some(length) = answer_http(&input[done..], output) {
                    done += length;
                }
            }
            Self::Get => {
                while let Some(length) = answer_get(&input[done..], output)? {
                    done += length;
                }
            }
        }
        Ok(done)
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| format!("no service is called {name:?}"))
    }
}

/// What one connection of a server has: bytes that have come, and answers to them.
pub struct Conversation {
    service: Service,
    /// Always of the same length.
    pub(crate) input: Vec<u8>,
    /// Bytes of `input` that are part of a request.
    pub(crate) filled: usize,
    pub(crate) output: Vec<u8>,
}

impl Conversation {
    /// Bytes that a server reads at once.
    pub const ROOM: usize = 16 << 10;

    pub fn new(service: Service) -> Self {
        Self {
            service,
            input: vec![0; Self::ROOM],
            filled: 0,
            output: Vec::with_capacity(Self::ROOM),
        }
    }

    /// Where the next bytes go; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.input[self.filled..]
    }

    /// So many bytes have come into the [room](Self::room): the answers to what they
    /// complete.
    ///
    /// # Errors
    ///
    /// What is no request, or longer than one may be.
    pub fn came(&mut self, count: usize) -> io::Result<&[u8]> {
        self.filled += count;
        self.output.clear();
        let input = &self.input[..self.filled];
        let done = self.service.answer(input, &mut self.output)?;
        self.input.copy_within(done..self.filled, 0);
        self.filled -= done;
        if self.filled == self.input.len() {
            return Err(invalid("a request is too long"));
        }
        Ok(&self.output)
    }
}

fn answer_http(input: &[u8], output: &mut Vec<u8>) -> Option<usize> {
    let end = input.windows(4).position(|four| four == b"\r\n\r\n")?;
    output.extend_from_slice(if input.starts_with(b"GET /plaintext HTTP/1.1\r\n") {
        PAGE
    } else {
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    });
    Some(end + 4)
}

fn answer_get(input: &[u8], output: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut left = input;
    match number(&mut left, b'*')? {
        None => return Ok(None),
        Some(2) => {}
        Some(_) => return Err(invalid("only GET with one key is known")),
    }
    let (Some(verb), Some(key)) = (bulk(&mut left)?, bulk(&mut left)?) else {
        return Ok(None);
    };
    if !verb.eq_ignore_ascii_case(b"GET") {
        return Err(invalid("only GET is known"));
    }
    match STORE.get(key) {
        Some(value) => push_bulk(output, value),
        None => output.extend_from_slice(b"$-1\r\n"),
    }
    Ok(Some(input.len() - left.len()))
}

/// Takes a line that is a number after `mark`; nothing while it is not whole.
fn number(input: &mut &[u8], mark: u8) -> io::Result<Option<usize>> {
    let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
        return Ok(None);
    };
    let line = &input[..end];
    *input = &input[end + 1..];
    let digits = line
        .strip_prefix(&[mark])
        .and_then(|it| it.strip_suffix(b"\r"));
    let digits = digits.filter(|it| (1..=9).contains(&it.len()));
    let digits = digits.ok_or_else(|| invalid("a number is missing"))?;
    digits
        .iter()
        .try_fold(0, |sum, &digit| match digit {
            b'0'..=b'9' => Ok(sum * 10 + usize::from(digit - b'0')),
            _ => Err(invalid("no digit")),
        })
        .map(Some)
}

/// Takes a string; nothing while it is not whole.
fn bulk<'a>(input: &mut &'a [u8]) -> io::Result<Option<&'a [u8]>> {
    let Some(length) = number(input, b'$')? else {
        return Ok(None);
    };
    if input.len() < length + 2 {
        return Ok(None);
    }
    let (text, rest) = input.split_at(length);
    *input = rest
        .strip_prefix(b"\r\n")
        .ok_or_else(|| invalid("a string goes on"))?;
    Ok(Some(text))
}

fn push_bulk(output: &mut Vec<u8>, text: &[u8]) {
    // All of ours are of two digits at most; `write!` into a vector can't fail.
    let _ = write!(output, "${}\r\n", text.len());
    output.extend_from_slice(text);
    output.extend_from_slice(b"\r\n");
}

fn key(at: usize) -> Vec<u8> {
    format!("key:{at:04}").into_bytes()
}

/// Bytes that differ from place to place.
fn random(at: usize, length: usize) -> Vec<u8> {
    let mut state = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

/// Sends a server more than a cycle of requests, in pieces of `piece` bytes that end in the
/// midst of them, and compares its answers. For tests.
///
/// # Panics
///
/// If an answer is wrong or missing.
pub fn check(server: SocketAddr, service: Service, piece: usize) {
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    for at in 0..2 * CYCLE + 1 {
        let (request, answer) = service.example(at % CYCLE);
        requests.extend(request);
        answers.extend(answer);
    }
    let mut stream = TcpStream::connect(server).expect("it listens");
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        for piece in requests.chunks(piece) {
            writer.write_all(piece).expect("the server reads");
        }
    });
    let mut came = vec![0; answers.len()];
    stream.read_exact(&mut came).expect("the server answers");
    writing.join().unwrap();
    assert!(came == answers, "{} of {piece} bytes", service.name());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_requests_and_answers_of_one_length() {
        for service in Service::ALL {
            let (request, answer) = service.example(0);
            for at in 0..CYCLE {
                let (other, its) = service.example(at);
                assert_eq!((other.len(), its.len()), (request.len(), answer.len()));
            }
        }
    }

    #[test]
    fn what_comes_in_pieces_is_answered_once() {
        for service in Service::ALL {
            for piece in [1, 7, 100] {
                let mut conversation = Conversation::new(service);
                let mut answers = Vec::new();
                for at in 0..20 {
                    for piece in service.example(at).0.chunks(piece) {
                        conversation.room()[..piece.len()].copy_from_slice(piece);
                        answers.extend_from_slice(conversation.came(piece.len()).unwrap());
                    }
                }
                let right: Vec<u8> = (0..20).flat_map(|at| service.example(at).1).collect();
                assert!(answers == right, "{service:?} by {piece}");
            }
        }
    }

    #[test]
    fn what_is_not_there_and_what_is_wrong() {
        let mut output = Vec::new();
        let request = b"GET /other HTTP/1.1\r\n\r\n";
        assert_eq!(
            Service::Http.answer(request, &mut output).unwrap(),
            request.len()
        );
        assert!(output.starts_with(b"HTTP/1.1 404"));
        output.clear();
        let request = b"*2\r\n$3\r\nget\r\n$2\r\nno\r\n";
        assert_eq!(
            Service::Get.answer(request, &mut output).unwrap(),
            request.len()
        );
        assert_eq!(output, b"$-1\r\n");
        for wrong in [
            "*3\r\n",
            "*x\r\n",
            "*\r\n",
            "*2\r\n$3\r\nSET\r\n$1\r\na\r\n",
            "*2\r\n$1\r\nabc",
        ] {
            assert!(
                Service::Get.answer(wrong.as_bytes(), &mut output).is_err(),
                "{wrong:?}"
            );
        }
    }
}
