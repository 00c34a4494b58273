//! A server in this process, and what a client of raw bytes says and hears.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crore::CancelToken;
use crore_http::server::Server;

/// What waits longer is stuck, however busy the machine is.
const STUCK: Duration = Duration::from_secs(120);

/// A server on a thread; it is ended, and must end well, when this is dropped.
pub struct Running {
    pub addr: SocketAddr,
    end: CancelToken,
    thread: Option<JoinHandle<io::Result<()>>>,
}

pub fn start(server: Server) -> Running {
    let end = CancelToken::new();
    let asked = end.clone();
    let (tell, ready) = mpsc::channel();
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let thread = thread::spawn(move || server.run(free, &asked, |addr| tell.send(addr).unwrap()));
    let addr = ready.recv_timeout(STUCK).expect("the server starts");
    Running {
        addr,
        end,
        thread: Some(thread),
    }
}

impl Running {
    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.cancel();
        let ended = self.thread.take().expect("only here").join();
        if !thread::panicking() {
            ended.expect("no panic").expect("no error");
        }
    }
}

/// A connection, and what came and is not looked at yet.
pub struct Client {
    pub stream: TcpStream,
    come: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Without the date.
    pub fields: Vec<String>,
    pub body: String,
}

impl Answer {
    pub fn has(&self, field: &str) -> bool {
        self.fields.iter().any(|one| one == field)
    }
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(STUCK)).unwrap();
        stream.set_write_timeout(Some(STUCK)).unwrap();
        let come = Vec::new();
        Self { stream, come }
    }

    /// Sends it. What the server has closed takes nothing more, which is no error here:
    /// its last answer says why.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends a `GET` of HTTP/1.1.
    pub fn get(&mut self, target: &str) -> Answer {
        self.send(get(target));
        self.answer()
    }

    pub fn answer(&mut self) -> Answer {
        self.read_answer(true)
    }

    /// The answer to a `HEAD`, which has no body.
    pub fn head_answer(&mut self) -> Answer {
        self.read_answer(false)
    }

    fn read_answer(&mut self, has_body: bool) -> Answer {
        let end = loop {
            let end = self.come.windows(4).position(|four| four == b"\r\n\r\n");
            match end {
                Some(end) => break end,
                None => assert!(self.read(), "no answer, but {:?}", self.text()),
            }
        };
        let head: Vec<u8> = self.come.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n").map(str::to_owned);
        let line = lines.next().unwrap();
        let status = line.strip_prefix("HTTP/1.1 ").unwrap()[..3]
            .parse()
            .unwrap();
        let (dates, fields): (Vec<_>, Vec<_>) = lines.partition(|one| one.starts_with("Date: "));
        assert_eq!(dates.len(), usize::from(status != 100), "{head}");
        let length = fields
            .iter()
            .find_map(|one| one.strip_prefix("Content-Length: "));
        let length = length.map_or(0, |text| text.parse().unwrap());
        let length = if has_body { length } else { 0 };
        while self.come.len() < length {
            assert!(self.read(), "half an answer: {head}{:?}", self.text());
        }
        let body = String::from_utf8(self.come.drain(..length).collect()).unwrap();
        Answer {
            status,
            fields,
            body,
        }
    }

    /// Fails unless nothing more comes, and the server has ended the connection.
    #[track_caller]
    pub fn ended(&mut self) {
        assert_eq!(self.rest(), "");
    }

    /// What comes until the server ends the connection.
    pub fn rest(&mut self) -> String {
        while self.read() {}
        self.text()
    }

    /// Reads some more; whether there was something.
    pub fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.come.extend_from_slice(&buffer[..count]);
                count > 0
            }
            // It was closed with something of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.come).into()
    }
}

pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: here\r\n\r\n")
}
