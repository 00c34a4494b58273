//! A client by chance: what it sends is made from bytes, whole frames and torn ones,
//! requests and nonsense. Whatever it is, the node answers in frames that are sound, ends
//! when the client does, and keeps nothing of it.

use std::collections::HashMap;
use std::io::{Cursor, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use crore::{CancelToken, Runtime};
use crore_push::config::Config;
use crore_push::gateway::{self, Permit};
use crore_push::service::Service;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::Role;
use tungstenite::{Error, Message, WebSocket};

/// As many bytes as histories may have.
const MEMORY: usize = 20_000;
const HEAD: &str = "GET /ws?name=fuzz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// Requests that mean something; `$` becomes a digit.
const REQUESTS: [&str; 8] = [
    r#"{"type":"subscribe","id":1,"channel":"c$"}"#,
    r#"{"type":"subscribe","id":2,"channel":"c$","since":{"epoch":"e","offset":$}}"#,
    r#"{"type":"unsubscribe","id":3,"channel":"c$"}"#,
    r#"{"type":"publish","id":4,"channel":"c$","data":{"a":[$]},"key":"k$"}"#,
    r#"{"type":"publish","id":5,"channel":"c$","data":"\u00e9 $"}"#,
    r#"{"type":"presence","id":6,"channel":"c$"}"#,
    r#"{"type":"history","id":7,"channel":"c$","after":$,"limit":$}"#,
    r#"{"type":"ping","id":8}"#,
];

/// The input's bytes, one after the other; then zeros.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

/// A frame of a client, with a mask that hides nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// What the client sends, in the pieces in which it does.
fn script(input: &[u8]) -> Vec<Vec<u8>> {
    let mut input = Bytes(input);
    let mut pieces = Vec::new();
    match input.next() % 8 {
        // Not even a handshake.
        0 => pieces.push(input.take(usize::MAX)),
        // A torn one.
        1 => {
            let at = usize::from(input.next()) % HEAD.len();
            pieces.push(HEAD.as_bytes()[..at].to_vec());
            pieces.push(HEAD.as_bytes()[at..].to_vec());
        }
        _ => pieces.push(HEAD.into()),
    }
    while !input.0.is_empty() {
        let next = operation(&mut input);
        match pieces.last_mut() {
            // Some come together.
            Some(last) if input.next().is_multiple_of(2) => last.extend(next),
            _ => pieces.push(next),
        }
    }
    pieces
}

fn operation(input: &mut Bytes) -> Vec<u8> {
    match input.next() % 10 {
        0..4 => {
            let request = REQUESTS[usize::from(input.next()) % REQUESTS.len()];
            let digit = (input.next() % 10).to_string();
            frame(0x81, request.replace('$', &digit).as_bytes())
        }
        4 => {
            let count = usize::from(input.next());
            frame(0x81, &input.take(count))
        }
        5 => {
            // In fragments, with a ping between.
            let request = REQUESTS[usize::from(input.next()) % REQUESTS.len()];
            let at = usize::from(input.next()) % request.len();
            let mut bytes = frame(0x01, &request.as_bytes()[..at]);
            bytes.extend(frame(0x89, b"between"));
            bytes.extend(frame(0x80, &request.as_bytes()[at..]));
            bytes
        }
        6 => {
            // Any bits, any kind.
            let (first, count) = (input.next(), usize::from(input.next()));
            frame(first, &input.take(count))
        }
        7 => frame(0x81, &vec![b'['; usize::from(input.next()) * 20]),
        8 => {
            let code = u16::from(input.next()) * 20;
            frame(0x88, &code.to_be_bytes())
        }
        _ => {
            let count = usize::from(input.next());
            input.take(count)
        }
    }
}

/// What the client reads until the node has no more to say.
fn talk(mut client: TcpStream, pieces: &[Vec<u8>]) -> Vec<u8> {
    for piece in pieces {
        // The node may have had enough.
        if client.write_all(piece).is_err() {
            break;
        }
        crore::yield_now();
    }
    let _ = client.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    // Closed with bytes unread it is reset, and what came before counts.
    let _ = client.read_to_end(&mut answer);
    answer
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Plays one client.
///
/// # Panics
///
/// If the node does what it must not.
pub fn run(input: &[u8]) {
    let pieces = script(input);
    let mut config = Config::default();
    let limits = format!("frame = 2000\nburst = 100\nmemory = {MEMORY}\nhistory_messages = 4");
    config.read(&limits).unwrap();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let answer = runtime.run(move || {
        let service = Arc::new(Service::new(config).unwrap());
        let (client, socket) = pair();
        let client = crore::spawn_local(move || talk(client, &pieces));
        let permit = Permit::take(&service).unwrap();
        gateway::serve(socket, permit, service.clone(), CancelToken::new());
        let answer = client.join().unwrap();
        let counters = &service.counters;
        assert_eq!((counters.sockets.get(), counters.connections.get()), (0, 0));
        assert!(service.channels.memory() <= MEMORY);
        for channel in service.channels.all() {
            assert!(channel.members().is_empty(), "somebody is still there");
        }
        answer
    });
    check(&answer.unwrap());
}

/// The node's side is sound, to its end or to where it was cut off.
fn check(answer: &[u8]) {
    if answer.is_empty() {
        return;
    }
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with("HTTP/1.1 "), "{text}");
    if !text.starts_with("HTTP/1.1 101 ") {
        return;
    }
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let frames = &answer[end.expect("a head has an end") + 4..];
    let stream = Mirror(Cursor::new(frames.to_vec()));
    let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
    let mut offsets: HashMap<String, u64> = HashMap::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                let kind = value["type"].as_str().expect("a type");
                let channel = value["channel"].as_str().unwrap_or("").to_owned();
                let offset = value["offset"].as_u64();
                match (kind, offset) {
                    ("subscribed" | "lag", Some(offset)) => {
                        offsets.insert(channel, offset);
                    }
                    ("message", Some(offset)) => {
                        let last = offsets.get_mut(&channel).expect("it has subscribed");
                        *last += 1;
                        assert_eq!(offset, *last, "{text}");
                    }
                    _ => {}
                }
            }
            Ok(_) => {}
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => break,
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => break,
            Err(why) => panic!("the node's frames are not sound: {why}"),
        }
    }
}

/// Reads what there is; what is written to it is nobody's.
struct Mirror(Cursor<Vec<u8>>);

impl Read for Mirror {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Mirror {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
