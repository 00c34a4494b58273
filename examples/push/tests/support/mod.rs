//! A node as a child process, and a client that checks what it gets.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

pub mod cluster;
pub mod proxy;

/// Longer than any answer takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A node; ends with the test.
pub struct Node {
    child: Child,
    pub clients: SocketAddr,
    pub admin: SocketAddr,
    /// Its last line on standard error.
    said: Option<JoinHandle<String>>,
}

impl Node {
    pub fn start(settings: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_push"));
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        // No client here has to be heard of, if its test does not say so.
        command.args(["--workers", "2", "--heartbeat_ms", "600000"]);
        command.args(settings);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        let mut after = |word| {
            words.find(|one| *one == word).expect("it says where it is");
            let address = words.next().unwrap().trim_end_matches(',');
            address.parse().unwrap()
        };
        let (clients, admin) = (after("at"), after("at"));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let said = std::thread::spawn(move || {
            let mut last = String::new();
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("{line}");
                last = line;
            }
            last
        });
        Self {
            child,
            clients,
            admin,
            said: Some(said),
        }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the child is ours and was not waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Waits for its end. Whether it ended well.
    pub fn wait(&mut self) -> bool {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(begun.elapsed() < PATIENCE, "the node does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The last words of one that has ended.
    pub fn last_words(&mut self) -> String {
        self.said.take().unwrap().join().unwrap()
    }

    /// What an admin page says.
    pub fn ask(&self, path: &str) -> String {
        get(self.admin, path)
    }

    pub fn metric(&self, name: &str) -> u64 {
        let text = self.ask("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
        line.trim().parse().unwrap()
    }

    /// Waits until the number is what it must become.
    pub fn await_metric(&self, name: &str, is: impl Fn(u64) -> bool) {
        let begun = Instant::now();
        while !is(self.metric(name)) {
            let late = begun.elapsed() > PATIENCE;
            assert!(!late, "{name} stays at {}", self.metric(name));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Bytes that it has resident.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib << 10
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The whole answer to a request of HTTP.
pub fn get(from: SocketAddr, path: &str) -> String {
    let mut socket = connect(from);
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

/// A client. What comes unasked while it waits for an answer is kept.
pub struct Client<S: Read + Write = TcpStream> {
    pub socket: WebSocket<S>,
    early: Vec<Value>,
    id: u64,
}

impl Client {
    pub fn connect(to: SocketAddr, name: &str) -> Self {
        Self::over(connect(to), name)
    }
}

impl<S: Read + Write> Client<S> {
    pub fn over(stream: S, name: &str) -> Self {
        let url = format!("ws://node/ws?name={name}");
        let (socket, _) = tungstenite::client(url, stream)
            .map_err(|why| why.to_string())
            .unwrap();
        let mut client = Self {
            socket,
            early: Vec::new(),
            id: 0,
        };
        assert_eq!(client.message()["type"], "hello");
        client
    }

    /// The next message, or why there is none.
    pub fn try_message(&mut self) -> Result<Value, String> {
        if !self.early.is_empty() {
            return Ok(self.early.remove(0));
        }
        self.read()
    }

    fn read(&mut self) -> Result<Value, String> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(frame)) => {
                    let frame = frame.expect("a reason");
                    return Err(format!("{}: {}", u16::from(frame.code), frame.reason));
                }
                Ok(_) => {}
                Err(why) => return Err(why.to_string()),
            }
        }
    }

    pub fn message(&mut self) -> Value {
        self.try_message().unwrap()
    }

    /// Why it was closed, after whatever came before.
    pub fn closed(&mut self) -> String {
        loop {
            if let Err(why) = self.try_message() {
                return why;
            }
        }
    }

    pub fn send(&mut self, mut request: Value) -> u64 {
        self.id += 1;
        request["id"] = self.id.into();
        self.socket
            .send(Message::text(request.to_string()))
            .unwrap();
        self.id
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, request: Value) -> Value {
        let id = self.send(request);
        loop {
            let message = self.read().unwrap();
            if message["id"] == id {
                return message;
            }
            self.early.push(message);
        }
    }

    pub fn subscribe(&mut self, channel: &str) -> Value {
        let answer = self.ask(json!({"type": "subscribe", "channel": channel}));
        assert_eq!(answer["type"], "subscribed", "{answer}");
        answer
    }

    pub fn resume(&mut self, channel: &str, epoch: &Value, offset: u64) -> Value {
        let since = json!({"epoch": epoch, "offset": offset});
        let answer = self.ask(json!({"type": "subscribe", "channel": channel, "since": since}));
        assert_eq!(answer["type"], "subscribed", "{answer}");
        answer
    }

    /// Publishes, and returns the offset.
    pub fn publish(&mut self, channel: &str, data: impl Into<Value>) -> u64 {
        let data = data.into();
        let answer = self.ask(json!({"type": "publish", "channel": channel, "data": data}));
        assert_eq!(answer["type"], "published", "{answer}");
        answer["offset"].as_u64().unwrap()
    }
}
