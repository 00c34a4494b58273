//! Servers as Debian has them.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use crate::command;

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A server that ends with its test.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(workers: Option<usize>, program: &str, args: &[&str]) -> Self {
        let port = free_port();
        let number = port.to_string();
        let args = args
            .iter()
            .map(|arg| if *arg == "PORT" { &number[..] } else { arg });
        let child = command(workers, Path::new(program))
            .args(args)
            .spawn()
            .unwrap();
        let this = Self { child, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{program} does not listen"
            );
            thread::sleep(Duration::from_millis(20));
        }
        this
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        BufReader::new(stream)
    }

    /// Asks it to end as an init system does; how it ended.
    fn end(mut self) -> Option<i32> {
        // SAFETY: no pointers; our child, which `timeout` hands the signal on from.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(server: &mut BufReader<TcpStream>, question: &str) -> String {
    server.get_mut().write_all(question.as_bytes()).unwrap();
    let mut line = String::new();
    server.read_line(&mut line).unwrap();
    line
}

#[test]
fn memcached_keeps_what_many_clients_set() {
    let end = |workers| {
        let args = [
            "-l",
            "127.0.0.1",
            "-p",
            "PORT",
            "-U",
            "0",
            "-t",
            "4",
            "-u",
            "nobody",
        ];
        let server = Server::start(workers, "memcached", &args);
        thread::scope(|scope| {
            for client in 0..20 {
                let server = &server;
                scope.spawn(move || {
                    let mut it = server.connect();
                    for i in 0..50 {
                        let key = format!("key-{client}-{i}");
                        let set = format!("set {key} 0 0 {}\r\n{key}\r\n", key.len());
                        assert_eq!(ask(&mut it, &set), "STORED\r\n");
                        let head = ask(&mut it, &format!("get {key}\r\n"));
                        assert_eq!(head, format!("VALUE {key} 0 {}\r\n", key.len()));
                        assert_eq!(ask(&mut it, ""), format!("{key}\r\n"));
                        assert_eq!(ask(&mut it, ""), "END\r\n");
                    }
                });
            }
        });
        server.end()
    };
    let plain = end(None);
    assert_eq!([end(Some(1)), end(Some(2))], [plain; 2]);
}

#[test]
fn redis_answers_and_saves() {
    let end = |workers| {
        let folder = crate::Folder::new(&format!("redis-{workers:?}"));
        let dir = folder.0.to_str().unwrap();
        let args = [
            "--port",
            "PORT",
            "--save",
            "",
            "--appendonly",
            "yes",
            "--dir",
            dir,
        ];
        let server = Server::start(workers, "redis-server", &args);
        thread::scope(|scope| {
            for client in 0..20 {
                let server = &server;
                scope.spawn(move || {
                    let mut it = server.connect();
                    for i in 0..50 {
                        assert_eq!(ask(&mut it, &format!("SET k{client} {i}\r\n")), "+OK\r\n");
                        let length = i.to_string().len();
                        let head = ask(&mut it, &format!("GET k{client}\r\n"));
                        assert_eq!(head, format!("${length}\r\n"));
                        assert_eq!(ask(&mut it, ""), format!("{i}\r\n"));
                    }
                });
            }
        });
        let mut it = server.connect();
        assert_eq!(ask(&mut it, "DBSIZE\r\n"), ":20\r\n");
        server.end()
    };
    let plain = end(None);
    assert_eq!([end(Some(1)), end(Some(2))], [plain; 2]);
}
