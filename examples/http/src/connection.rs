//! HTTP/1.1 on one connection, as blocking code: requests come in, whole ones are
//! answered in their order, and all that has come at once is answered with one write.
//!
//! What a client may do is limited, and what is beyond gets an answer that says so:
//!
//! | limit | answer |
//! |---|---|
//! | a head of more than [`Limits::head`] bytes or 64 fields | 431; 414 if it is the target |
//! | a body of more than [`Limits::body`] bytes; one without a length | 413; 411 |
//! | a request that is not there whole [`Limits::request`] after its first byte | 408 |
//! | answers that nobody reads for [`Limits::write`] | the connection ends |
//! | no request for [`Limits::idle`] | the connection ends |
//! | what is no HTTP, another version, another method, another expectation | 400, 505, 405, 417 |
//!
//! No crore here: it is the same on a thread.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::date;

/// Fields of a head.
const FIELDS: usize = 64;
/// Room for what comes, at first: some 20 requests of a browserless client.
const ROOM: usize = 4096;
/// Answers beyond so many bytes are sent before the next request is looked at.
const ENOUGH: usize = 64 * 1024;
/// How much a client that was refused may go on to send while it does not read, and how
/// long: closed at once, the connection would be reset, and our reason lost with it.
const LINGER: (usize, Duration) = (256 * 1024, Duration::from_secs(1));

/// What a client may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's head.
    pub head: usize,
    /// Bytes of its body, which is thrown away.
    pub body: u64,
    /// From a request's first byte to its last.
    pub request: Duration,
    /// Until the next request begins.
    pub idle: Duration,
    /// For the client to read what was answered.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 8 * 1024,
            body: 64 * 1024,
            request: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(10),
        }
    }
}

/// What is asked for, with `GET` or `HEAD`.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What is before the question mark.
    pub path: &'a str,
    /// What is after it.
    pub query: &'a str,
}

/// What is answered; its body stands elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The code of the status.
    pub status: u16,
    /// The type of the body.
    pub content_type: &'static str,
}

impl Reply {
    /// An error, whose body is text.
    pub const fn error(status: u16) -> Self {
        Self {
            status,
            content_type: "text/plain",
        }
    }
}

/// Who answers.
pub trait Service {
    /// Writes the body into `body`, which is empty, and returns what goes before it.
    fn answer(&self, request: &Request<'_>, body: &mut Vec<u8>) -> Reply;

    /// Whether the present request is to be this connection's last.
    fn is_ending(&self) -> bool;

    /// Reads, within `limit`: `WouldBlock` or `TimedOut` says that it is over. With std
    /// alone that is a system call more.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    fn read(
        &self,
        mut stream: &TcpStream,
        buffer: &mut [u8],
        limit: Duration,
    ) -> io::Result<usize> {
        stream.set_read_timeout(Some(limit))?;
        stream.read(buffer)
    }
}

/// Serves a connection until its client, a limit or the service ends it.
///
/// # Errors
///
/// Those of the socket; also the client's going in the midst of a request.
pub fn serve(stream: &TcpStream, service: &impl Service, limits: &Limits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(limits.write))?;
    let mut out = Vec::new();
    match converse(stream, &mut out, service, limits) {
        Ok(()) => linger(stream, service),
        Err(Stop::Refused(refusal)) => {
            refuse(&refusal, &mut out);
            send(stream, &mut out, limits)?;
            linger(stream, service)
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Until one side is done.
fn converse(
    stream: &TcpStream,
    out: &mut Vec<u8>,
    service: &impl Service,
    limits: &Limits,
) -> Result<(), Stop> {
    let mut input = Input::new();
    let mut body = Vec::new();
    loop {
        let go = answer_all(stream, &mut input, out, &mut body, service, limits)?;
        send(stream, out, limits)?;
        if matches!(go, Go::Close) {
            return Ok(());
        }
        if input.read(stream, service, limits)? == 0 {
            return match input.is_empty() {
                true => Ok(()),
                false => Err(Stop::Failed(ErrorKind::UnexpectedEof.into())),
            };
        }
    }
}

/// Answers 503 and ends the connection: for more of them than there may be.
///
/// # Errors
///
/// Those of the socket.
pub fn turn_away(stream: &TcpStream, service: &impl Service, limits: &Limits) -> io::Result<()> {
    stream.set_write_timeout(Some(limits.write))?;
    let mut out = Vec::new();
    refuse(&Refusal::new(503, "all connections are taken"), &mut out);
    send(stream, &mut out, limits)?;
    linger(stream, service)
}

/// What becomes of a connection when all that had come is answered.
enum Go {
    On,
    Close,
}

/// Why it does not go on.
enum Stop {
    /// The client is told.
    Refused(Refusal),
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

struct Refusal {
    status: u16,
    why: String,
}

impl Refusal {
    fn new(status: u16, why: impl Into<String>) -> Self {
        Self {
            status,
            why: why.into(),
        }
    }
}

/// What has come and is not used yet: `bytes[begin..end]`.
struct Input {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
    /// When a request began of which a part is missing.
    since: Option<Instant>,
}

impl Input {
    fn new() -> Self {
        Self {
            bytes: vec![0; ROOM],
            begin: 0,
            end: 0,
            since: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Waits for more; 0 if there will be none.
    fn read(
        &mut self,
        stream: &TcpStream,
        service: &impl Service,
        limits: &Limits,
    ) -> Result<usize, Stop> {
        if self.begin > 0 {
            self.bytes.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        if self.end == self.bytes.len() {
            // At most one limit more than there may be: it is found too long then.
            self.bytes.resize(self.end * 2, 0);
        }
        if !self.is_empty() && self.since.is_none() {
            self.since = Some(Instant::now());
        }
        let limit = match self.since {
            Some(since) => limits.request.saturating_sub(since.elapsed()),
            None => limits.idle,
        };
        if limit.is_zero() {
            return Err(late(limits).into());
        }
        loop {
            return match service.read(stream, &mut self.bytes[self.end..], limit) {
                Ok(count) => {
                    self.end += count;
                    Ok(count)
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_late(&error) && self.since.is_some() => Err(late(limits).into()),
                // Nobody has asked for anything: that is how connections end.
                Err(error) if is_late(&error) => Ok(0),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Throws away `length` bytes of a body, which may be still to come. The request is
    /// whole then: the next one has its own time.
    fn skip(
        &mut self,
        length: u64,
        stream: &TcpStream,
        service: &impl Service,
        limits: &Limits,
    ) -> Result<(), Stop> {
        let mut left = length;
        loop {
            let here = left.min((self.end - self.begin) as u64);
            self.begin += here as usize;
            left -= here;
            if left == 0 {
                self.since = None;
                return Ok(());
            }
            self.since.get_or_insert_with(Instant::now);
            if self.read(stream, service, limits)? == 0 {
                return Err(Stop::Failed(ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn late(limits: &Limits) -> Refusal {
    let why = format!("a request has to be there within {:?}", limits.request);
    Refusal::new(408, why)
}

/// Answers the requests that are there whole, into `out`.
fn answer_all(
    stream: &TcpStream,
    input: &mut Input,
    out: &mut Vec<u8>,
    body: &mut Vec<u8>,
    service: &impl Service,
    limits: &Limits,
) -> Result<Go, Stop> {
    if input.is_empty() {
        return Ok(Go::On);
    }
    let date = date::now();
    while !input.is_empty() {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
        let Some(head) = Head::parse(&input.bytes[input.begin..input.end], &mut fields, limits)?
        else {
            return Ok(Go::On);
        };
        if head.expects && head.body > 0 {
            // Those before it first, so that the client knows whose this is.
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            send(stream, out, limits)?;
        }
        let before = out.len();
        body.clear();
        let reply = service.answer(&head.request, body);
        let close = !head.keep_alive || service.is_ending();
        let connection = match (close, head.is_old) {
            (true, _) => "Connection: close\r\n",
            (false, true) => "Connection: keep-alive\r\n",
            (false, false) => "",
        };
        write_head(out, reply, &date, body.len(), connection);
        if !head.is_head {
            out.extend_from_slice(body);
        }
        let length = head.body;
        input.begin += head.length;
        if let Err(stop) = input.skip(length, stream, service, limits) {
            // Not this answer, to what is not there whole.
            out.truncate(before);
            return Err(stop);
        }
        if close {
            return Ok(Go::Close);
        }
        if out.len() >= ENOUGH {
            send(stream, out, limits)?;
        }
    }
    Ok(Go::On)
}

/// A request's head, understood.
struct Head<'a> {
    request: Request<'a>,
    /// The answer has no body.
    is_head: bool,
    /// HTTP/1.0.
    is_old: bool,
    keep_alive: bool,
    /// The client waits for our word before it sends the body.
    expects: bool,
    /// Bytes of the head, and of the body after it.
    length: usize,
    body: u64,
}

impl<'a> Head<'a> {
    /// The head that `bytes` begin with, if it is there whole.
    fn parse(
        bytes: &'a [u8],
        fields: &mut [MaybeUninit<httparse::Header<'a>>],
        limits: &Limits,
    ) -> Result<Option<Self>, Refusal> {
        let mut parsed = httparse::Request::new(&mut []);
        let length = match parsed.parse_with_uninit_headers(bytes, fields) {
            Ok(httparse::Status::Complete(length)) if length <= limits.head => length,
            Ok(httparse::Status::Partial) if bytes.len() <= limits.head => return Ok(None),
            Ok(_) => return Err(too_long(bytes, limits)),
            Err(httparse::Error::TooManyHeaders) => {
                let why = format!("a request has at most {FIELDS} fields");
                return Err(Refusal::new(431, why));
            }
            Err(httparse::Error::Version) => {
                return Err(Refusal::new(505, "HTTP/1.1 is spoken here, and HTTP/1.0"));
            }
            Err(error) => return Err(Refusal::new(400, format!("no request: {error}"))),
        };
        let is_old = parsed.version == Some(0);
        let mut head = Self {
            request: target(parsed.path.unwrap_or(""))?,
            is_head: parsed.method == Some("HEAD"),
            is_old,
            keep_alive: !is_old,
            expects: false,
            length,
            body: 0,
        };
        head.read_fields(parsed.headers, limits)?;
        match parsed.method {
            Some("GET" | "HEAD") => Ok(Some(head)),
            _ => Err(Refusal::new(405, "there is GET and HEAD")),
        }
    }

    fn read_fields(
        &mut self,
        fields: &[httparse::Header<'_>],
        limits: &Limits,
    ) -> Result<(), Refusal> {
        let bad = |why: &str| Err(Refusal::new(400, why));
        let (mut hosts, mut lengths) = (0, 0);
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            // By length first: most fields are none of these.
            match field.name.len() {
                4 if is("host") => hosts += 1,
                6 if is("expect") => {
                    if !field.value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal::new(417, "only 100-continue can be expected"));
                    }
                    self.expects = !self.is_old;
                }
                10 if is("connection") => self.read_connection(field.value),
                14 if is("content-length") => {
                    lengths += 1;
                    match number(field.value) {
                        Some(length) if lengths == 1 => self.body = length,
                        _ => return bad("one Content-Length, in digits"),
                    }
                }
                17 if is("transfer-encoding") => {
                    return Err(Refusal::new(411, "a body has a Content-Length here"));
                }
                _ => {}
            }
        }
        if hosts > 1 || hosts == 0 && !self.is_old {
            return bad("one Host");
        }
        if self.body > limits.body {
            let why = format!("a body has at most {} bytes", limits.body);
            return Err(Refusal::new(413, why));
        }
        Ok(())
    }

    fn read_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                self.keep_alive = false;
                return;
            }
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            }
        }
    }
}

/// What a target asks for: a path, or one with a scheme and a host before it, as
/// clients send to proxies.
fn target(target: &str) -> Result<Request<'_>, Refusal> {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ if target.starts_with('/') => target,
        _ => return Err(Refusal::new(400, "a target begins with a slash")),
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Ok(Request { path, query })
}

fn too_long(bytes: &[u8], limits: &Limits) -> Refusal {
    let line = bytes.iter().position(|&byte| byte == b'\n');
    let status = if line.is_some_and(|end| end <= limits.head) {
        431
    } else {
        414
    };
    Refusal::new(status, format!("a head has at most {} bytes", limits.head))
}

/// A number in digits alone: no sign, no space.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits
        .then(|| std::str::from_utf8(text).ok()?.parse().ok())
        .flatten()
}

/// The refusal is the connection's last answer.
fn refuse(refusal: &Refusal, out: &mut Vec<u8>) {
    let Refusal { status, why } = refusal;
    let body = format!("{status} {}: {why}\n", reason(*status));
    let more = match status {
        405 => "Allow: GET, HEAD\r\nConnection: close\r\n",
        503 => "Retry-After: 1\r\nConnection: close\r\n",
        _ => "Connection: close\r\n",
    };
    write_head(out, Reply::error(*status), &date::now(), body.len(), more);
    out.extend_from_slice(body.as_bytes());
}

fn write_head(
    out: &mut Vec<u8>,
    reply: Reply,
    date: &[u8; date::LENGTH],
    length: usize,
    more: &str,
) {
    match reply.status {
        200 => out.extend_from_slice(b"HTTP/1.1 200 OK\r\nServer: crore\r\nDate: "),
        status => {
            let line = format!(
                "HTTP/1.1 {status} {}\r\nServer: crore\r\nDate: ",
                reason(status)
            );
            out.extend_from_slice(line.as_bytes());
        }
    }
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\nContent-Type: ");
    out.extend_from_slice(reply.content_type.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: ");
    push_number(out, length);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(more.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Digits, without the machinery of `write!`.
fn push_number(out: &mut Vec<u8>, mut number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "OK",
    }
}

/// Sends all of `out`, which is empty then. A client that takes it byte by byte has
/// [`Limits::write`] for all of it.
fn send(mut stream: &TcpStream, out: &mut Vec<u8>, limits: &Limits) -> io::Result<()> {
    let mut sent = 0;
    let mut since = None;
    while sent < out.len() {
        match stream.write(&out[sent..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if sent < out.len() {
            let since = since.get_or_insert_with(Instant::now);
            if since.elapsed() >= limits.write {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
    out.clear();
    // What one long answer has taken, idle connections do not keep.
    if out.capacity() > 2 * ENOUGH {
        out.shrink_to(0);
    }
    Ok(())
}

/// Ends our side, and waits a little for the client's.
fn linger(stream: &TcpStream, service: &impl Service) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let (bytes, time) = LINGER;
    let since = Instant::now();
    let (mut read, mut buffer) = (0, [0; 1024]);
    while read < bytes && since.elapsed() < time {
        match service.read(stream, &mut buffer, time) {
            Ok(0) | Err(_) => break,
            Ok(count) => read += count,
        }
    }
    Ok(())
}
