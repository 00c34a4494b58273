//! Redis, haproxy and a load as child processes; nodes that share a bus.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{Node, PATIENCE};

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One that nobody listens at.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A program that ends with the test.
struct Program(Child);

impl Program {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A Redis of a test's own.
pub struct Redis {
    program: Program,
    pub address: SocketAddr,
    settings: Vec<String>,
    dir: TempDir,
}

impl Redis {
    /// Syncs what it answers.
    pub fn durable() -> Self {
        Self::start(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    pub fn start(settings: &[&str]) -> Self {
        let settings: Vec<_> = settings.iter().map(|one| (*one).to_owned()).collect();
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let program = run(address, &dir, &settings);
        Self {
            program,
            address,
            settings,
            dir,
        }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Again, with what it has on disk.
    pub fn restart(&mut self) {
        self.program = run(self.address, &self.dir, &self.settings);
    }

    /// The answer's first line.
    pub fn ask(&self, command: &str) -> String {
        ask(self.address, command).expect("it answers")
    }
}

fn run(address: SocketAddr, dir: &TempDir, settings: &[String]) -> Program {
    let program = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", ""])
        .args(["--port", &address.port().to_string()])
        .args(settings)
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .spawn();
    let program = Program(program.expect("redis-server is there"));
    until("Redis answers", || {
        ask(address, "PING").is_some_and(|line| line == "+PONG")
    });
    program
}

fn ask(address: SocketAddr, command: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address).ok()?;
    write!(socket, "{command}\r\n").ok()?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).ok()?;
    Some(line.trim_end().to_owned())
}

/// A NATS of a test's own.
pub struct Nats {
    program: Program,
    address: SocketAddr,
}

impl Nats {
    pub fn start() -> Self {
        let address = free_address();
        let program = hand_on(address);
        Self { program, address }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub fn kill(&mut self) {
        self.program.kill();
    }

    pub fn restart(&mut self) {
        self.program = hand_on(self.address);
    }
}

fn hand_on(address: SocketAddr) -> Program {
    let program = Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", &address.port().to_string()])
        .env("PATH", path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let program = Program(program.expect("nats-server is there"));
    until("NATS answers", || TcpStream::connect(address).is_ok());
    program
}

/// Servers are not always in a user's path.
fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin"
}

/// haproxy before the nodes.
pub struct Balancer {
    program: Program,
    pub address: SocketAddr,
    dir: TempDir,
}

impl Balancer {
    pub fn start(nodes: &[Node]) -> Self {
        let (address, dir) = (free_address(), tempfile::tempdir().unwrap());
        let mut text = format!(
            "defaults\n mode tcp\n timeout connect 2s\n timeout client 1h\n timeout server 1h\n\
             listen push\n bind {address}\n option httpchk GET /health\n \
             default-server check inter 200 fall 2 rise 1\n"
        );
        for (i, node) in nodes.iter().enumerate() {
            let (clients, admin) = (node.clients, node.admin.port());
            text += &format!(" server n{i} {clients} port {admin}\n");
        }
        std::fs::write(dir.path().join("haproxy.cfg"), text).unwrap();
        let program = balance(address, &dir);
        Self {
            program,
            address,
            dir,
        }
    }

    pub fn kill(&mut self) {
        self.program.kill();
    }

    pub fn restart(&mut self) {
        self.program = balance(self.address, &self.dir);
    }
}

fn balance(address: SocketAddr, dir: &TempDir) -> Program {
    let program = Command::new("haproxy")
        .args(["-db", "-f"])
        .arg(dir.path().join("haproxy.cfg"))
        .env("PATH", path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let program = Program(program.expect("haproxy is there"));
    until("haproxy listens", || TcpStream::connect(address).is_ok());
    program
}

/// Nodes with one bus.
pub struct Cluster {
    pub nodes: Vec<Node>,
    settings: Vec<Vec<String>>,
}

impl Cluster {
    /// A node for each address of the bus.
    pub fn start(buses: &[String], settings: &[&str]) -> Self {
        let mut cluster = Self {
            nodes: Vec::new(),
            settings: Vec::new(),
        };
        for (i, bus) in buses.iter().enumerate() {
            let mut own = vec!["--bus".to_owned(), bus.clone()];
            own.extend(["--node".into(), format!("n{i}")]);
            // A test asks as often as it likes.
            own.extend(["--rate", "100000", "--burst", "100000"].map(str::to_owned));
            own.extend(settings.iter().map(|one| (*one).to_owned()));
            let node = start(&own);
            // It is the same one after it was started again.
            own.extend(["--listen".into(), node.clients.to_string()]);
            own.extend(["--admin".into(), node.admin.to_string()]);
            cluster.nodes.push(node);
            cluster.settings.push(own);
        }
        for node in &cluster.nodes {
            await_health(node);
        }
        cluster
    }

    /// A node that has ended, where it was.
    pub fn restart(&mut self, i: usize) {
        self.nodes[i] = start(&self.settings[i]);
        await_health(&self.nodes[i]);
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.clients).collect()
    }
}

fn start(settings: &[String]) -> Node {
    let settings: Vec<_> = settings.iter().map(|one| &**one).collect();
    Node::start(&settings)
}

/// Waits until a node has its bus.
pub fn await_health(node: &Node) {
    until("the node is ready", || {
        node.ask("/health").ends_with("ready\n")
    });
}

/// `push_load`, which checks every message, until it is told to stop.
pub struct Load(Program);

impl Load {
    pub fn start(to: &[SocketAddr], settings: &[&str]) -> Self {
        let to: Vec<_> = to.iter().map(ToString::to_string).collect();
        let child = Command::new(env!("CARGO_BIN_EXE_push_load"))
            .args(["--to", &to.join(","), "--stdin", "--silence", "3"])
            .args(["--seconds", "1000000"])
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(Program(child.unwrap()))
    }

    /// Waits until so many more messages were published by these nodes.
    pub fn await_published<'a>(nodes: impl IntoIterator<Item = &'a Node>, more: u64) {
        let nodes: Vec<_> = nodes.into_iter().collect();
        let count = || -> u64 {
            let counts = nodes.iter().map(|node| node.metric("push_published "));
            counts.sum()
        };
        let before = count();
        until("the load goes on", || count() >= before + more);
    }

    /// Stops it. Every message came, once, in order.
    pub fn check(mut self) -> Value {
        drop(self.0.0.stdin.take());
        let mut text = String::new();
        let stdout = self.0.0.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        let is_well = self.0.0.wait().unwrap().success();
        assert!(is_well, "{text}");
        let result: Value = serde_json::from_str(&text).unwrap();
        for fault in ["lost", "twice", "disordered"] {
            assert_eq!(result[fault], 0, "{text}");
        }
        assert_eq!(result["faults"], Value::Array(Vec::new()), "{text}");
        assert!(result["deliveries"].as_u64() > result["published"].as_u64());
        result
    }
}
