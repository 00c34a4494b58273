//! A connection to one of the nodes, that comes back when it is gone.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, Utf8Bytes, WebSocket};

use crate::Load;

pub struct Client {
    socket: WebSocket<TcpStream>,
}

/// What a node says, as far as it matters here.
#[derive(Deserialize)]
pub struct Answer<'a> {
    pub r#type: &'a str,
    pub epoch: Option<&'a str>,
    pub offset: Option<u64>,
    pub recovered: Option<bool>,
    pub heartbeat_ms: Option<u64>,
    pub missed: Option<u64>,
    pub reason: Option<&'a str>,
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
}

impl Client {
    /// Connects, to the node after the one that `turn` was at if that does not work,
    /// until it does. `None`: the load ends.
    pub fn connect(load: &Load, turn: &mut usize) -> Option<Self> {
        let _place = load.connecting.acquire(1).expect("never closed");
        let mut pause = Duration::from_millis(10);
        while !load.end.is_cancelled() {
            let to = &load.options.to[*turn % load.options.to.len()];
            match Self::open(load, to) {
                Ok(client) => return Some(client),
                Err(why) if load.options.to.len() == 1 && pause > Duration::from_secs(5) => {
                    load.fault(format!("{to}: {why}"));
                    return None;
                }
                Err(_) => *turn += 1,
            }
            crore::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(6));
        }
        None
    }

    fn open(load: &Load, to: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(load.options.silence))?;
        let config = WebSocketConfig::default().read_buffer_size(1024);
        let opened = tungstenite::client::client_with_config("ws://node/ws", stream, Some(config));
        let (socket, _) = opened.map_err(|why| io::Error::other(why.to_string()))?;
        let mut client = Self { socket };
        let hello = client.read().map_err(io::Error::other)?;
        let hello: Answer = serde_json::from_str(&hello)?;
        let beat = Duration::from_millis(hello.heartbeat_ms.unwrap_or(0));
        // The node pings a client that is silent; one that says nothing for longer hangs.
        let silence = 2 * beat + Duration::from_secs(1);
        client.socket.get_ref().set_read_timeout(Some(silence))?;
        Ok(client)
    }

    pub fn send(&mut self, text: String) -> Result<(), String> {
        let sent = self.socket.send(Message::text(text));
        sent.map_err(|why| why.to_string())
    }

    /// The next message.
    pub fn read(&mut self) -> Result<Utf8Bytes, String> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(text),
                Ok(Message::Close(frame)) => {
                    // It is answered by the next call, which then says that it is over.
                    let _ = self.socket.read();
                    return Err(frame.map_or_else(String::new, |frame| frame.to_string()));
                }
                // A ping was answered.
                Ok(_) => self.socket.flush().map_err(|why| why.to_string())?,
                Err(why) => return Err(why.to_string()),
            }
        }
    }
}

pub fn parse<'a>(load: &Load, text: &'a str) -> Option<Answer<'a>> {
    serde_json::from_str(text)
        .inspect_err(|why| load.fault(format!("{why}: {text}")))
        .ok()
}
