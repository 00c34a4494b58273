//! What a server that tells of messages is told, and what it says: Redis.

use std::io::BufReader;
use std::net::TcpStream;

use redis::{Cmd, ConnectionAddr, ConnectionInfo, Parser, Value, cmd};

use crate::bus::redis::script;

/// The words of a server.
pub trait Words: Send + Sync {
    /// Where it is: host and port.
    fn address(&self) -> Result<(String, u16), String>;

    /// What a connection begins with.
    fn greeting(&self) -> Vec<u8>;

    /// Subscribes; how often the server then says that it has.
    fn subscribe(&self, names: &[&str]) -> (Vec<u8>, usize);

    /// Subscribes no more.
    fn unsubscribe(&self, name: &str) -> Vec<u8>;

    /// Asks for a sign of life; how often the server then says that it has subscribed.
    fn beat(&self) -> (Vec<u8>, usize);

    /// Tells all nodes. `None` if that is done where the message is added.
    fn tell(&self, name: &str, told: &str) -> Option<Vec<u8>>;

    /// The half of a connection that hears.
    fn ears(&self, socket: TcpStream) -> Box<dyn Ears>;
}

/// Hears what a server says.
pub trait Ears {
    /// The next thing.
    fn hear(&mut self) -> Result<Heard, String>;
}

/// What a server says.
pub enum Heard {
    /// A message: the channel's name, what was told.
    Told(String, String),
    /// It has subscribed.
    Subscribed,
    /// It wants this for an answer.
    Asked(&'static [u8]),
    /// Something that needs nothing.
    Else,
}

/// Redis's publish and subscribe.
pub struct Resp(pub ConnectionInfo);

impl Words for Resp {
    fn address(&self) -> Result<(String, u16), String> {
        match self.0.addr() {
            ConnectionAddr::Tcp(host, port) => Ok((host.clone(), *port)),
            _ => Err("only redis://HOST:PORT is here".into()),
        }
    }

    fn greeting(&self) -> Vec<u8> {
        let settings = self.0.redis_settings();
        let Some(password) = settings.password() else {
            return Vec::new();
        };
        let mut command = cmd("AUTH");
        if let Some(name) = settings.username() {
            command.arg(name);
        }
        command.arg(password).get_packed_command()
    }

    fn subscribe(&self, names: &[&str]) -> (Vec<u8>, usize) {
        let mut command = cmd("SUBSCRIBE");
        for name in names {
            command.arg(script::subject(name));
        }
        (command.get_packed_command(), names.len())
    }

    fn unsubscribe(&self, name: &str) -> Vec<u8> {
        Cmd::get_packed_command(cmd("UNSUBSCRIBE").arg(script::subject(name)))
    }

    fn beat(&self) -> (Vec<u8>, usize) {
        (cmd("PING").get_packed_command(), 0)
    }

    fn tell(&self, _: &str, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn ears(&self, socket: TcpStream) -> Box<dyn Ears> {
        Box::new(RespEars {
            socket: BufReader::new(socket),
            parser: Parser::new(),
        })
    }
}

struct RespEars {
    socket: BufReader<TcpStream>,
    parser: Parser,
}

impl Ears for RespEars {
    fn hear(&mut self) -> Result<Heard, String> {
        let value = self.parser.parse_value(&mut self.socket);
        let value = value.map_err(|why| why.to_string())?;
        if let Value::ServerError(why) = value {
            return Err(why.to_string());
        }
        // The others are `OK` and `PONG`.
        let Value::Array(mut parts) = value else {
            return Ok(Heard::Else);
        };
        let mut text = || match parts.pop() {
            Some(Value::BulkString(bytes)) => String::from_utf8(bytes).ok(),
            _ => None,
        };
        let (last, subject, kind) = (text(), text(), text());
        Ok(match (kind.as_deref(), subject, last) {
            (Some("message"), Some(subject), Some(told)) => {
                let name = script::channel(&subject).ok_or("a subject that nobody asked for")?;
                Heard::Told(name.to_owned(), told)
            }
            (Some("subscribe"), ..) => Heard::Subscribed,
            _ => Heard::Else,
        })
    }
}
