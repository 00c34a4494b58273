//! What a server that tells of messages is told, and what it says: NATS, by its own
//! [protocol](https://docs.nats.io/reference/reference-protocols/nats-protocol).
//!
//! A channel is a subject, whose name is the subscription's, too. NATS says nothing of a
//! subscription that it has taken, but answers in order: a question is sent behind it.
//! (The blocking client for Rust is given up by its authors, and has threads of its own.)

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

use serde_json::json;

use crate::bus::redis::words::{Ears, Heard, Words};

/// What the subjects begin with.
const SUBJECT: &str = "push.";
/// The longest line that is believed: subjects, and what the server says of itself.
const LINE: u64 = 64 << 10;
/// The longest message that is believed.
const MESSAGE: usize = 64 << 20;
const QUESTION: &str = "PING\r\n";

/// A server of NATS.
pub struct Nats {
    host: String,
    port: u16,
    /// Name and password.
    user: Option<(String, String)>,
}

impl Nats {
    /// By `nats://[NAME:PASSWORD@]HOST[:PORT]`.
    pub fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("nats://")?;
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user.split_once(':')?), place),
            None => (None, rest),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (place, 4222),
        };
        (!host.is_empty()).then(|| Self {
            host: host.to_owned(),
            port,
            user: user.map(|(name, password)| (name.to_owned(), password.to_owned())),
        })
    }
}

impl Words for Nats {
    fn address(&self) -> Result<(String, u16), String> {
        Ok((self.host.clone(), self.port))
    }

    fn greeting(&self) -> Vec<u8> {
        let mut settings = json!({
            "verbose": false, "pedantic": false, "lang": "rust",
            "name": "push", "version": env!("CARGO_PKG_VERSION"),
        });
        if let Some((name, password)) = &self.user {
            settings["user"] = name.as_str().into();
            settings["pass"] = password.as_str().into();
        }
        format!("CONNECT {settings}\r\n").into_bytes()
    }

    fn subscribe(&self, names: &[&str]) -> (Vec<u8>, usize) {
        let mut text = String::new();
        for name in names {
            let subject = subject(name);
            let _ = write!(text, "SUB {subject} {subject}\r\n");
        }
        text += QUESTION;
        (text.into_bytes(), 1)
    }

    fn unsubscribe(&self, name: &str) -> Vec<u8> {
        format!("UNSUB {}\r\n", subject(name)).into_bytes()
    }

    fn beat(&self) -> (Vec<u8>, usize) {
        (QUESTION.into(), 1)
    }

    fn tell(&self, name: &str, told: &str) -> Option<Vec<u8>> {
        let (subject, len) = (subject(name), told.len());
        Some(format!("PUB {subject} {len}\r\n{told}\r\n").into_bytes())
    }

    fn ears(&self, socket: TcpStream) -> Box<dyn Ears> {
        Box::new(NatsEars(BufReader::new(socket)))
    }
}

struct NatsEars<R>(BufReader<R>);

impl<R: Read> Ears for NatsEars<R> {
    fn hear(&mut self) -> Result<Heard, String> {
        let mut line = String::new();
        let read = (&mut self.0).take(LINE).read_line(&mut line);
        read.map_err(|why| why.to_string())?;
        let Some(line) = line.strip_suffix("\r\n") else {
            return Err("it ended".into());
        };
        let mut words = line.split(' ');
        Ok(match words.next() {
            Some("MSG") => {
                let subject = words.next().unwrap_or_default();
                let name = channel(subject).ok_or("a subject that nobody asked for")?;
                Heard::Told(name, self.payload(words.next_back())?)
            }
            Some("PONG") => Heard::Subscribed,
            Some("PING") => Heard::Asked(b"PONG\r\n"),
            Some("-ERR") => return Err(line.to_owned()),
            // What it says of itself, also when that changes.
            _ => Heard::Else,
        })
    }
}

impl<R: Read> NatsEars<R> {
    fn payload(&mut self, len: Option<&str>) -> Result<String, String> {
        let len = len.and_then(|len| len.parse().ok());
        let len: usize = len.filter(|len| *len <= MESSAGE).ok_or("no length")?;
        let mut bytes = vec![0; len + 2];
        let read = self.0.read_exact(&mut bytes);
        read.map_err(|why| why.to_string())?;
        bytes.truncate(len);
        String::from_utf8(bytes).map_err(|why| why.to_string())
    }
}

/// A channel's subject. Names may have any letters, and subjects not.
fn subject(name: &str) -> String {
    let mut subject = SUBJECT.to_owned();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => subject.push(byte.into()),
            _ => {
                let _ = write!(subject, "={byte:02x}");
            }
        }
    }
    subject
}

/// Whose that is.
fn channel(subject: &str) -> Option<String> {
    let mut rest = subject.strip_prefix(SUBJECT)?.bytes();
    let mut name = Vec::new();
    while let Some(byte) = rest.next() {
        name.push(match byte {
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_a_subject() {
        for name in ["room", "a.b.>", "* x", "zwölf", "=", "50%\r\n"] {
            let subject = subject(name);
            assert!(
                subject.bytes().all(|byte| byte.is_ascii_graphic()),
                "{subject}"
            );
            assert_eq!(subject.matches(['.', '*', '>']).count(), 1, "{subject}");
            assert_eq!(channel(&subject).as_deref(), Some(name));
        }
        for none in ["room", "push.=", "push.=4", "push.=xy", "push.=ff"] {
            assert_eq!(channel(none), None, "{none}");
        }
    }

    #[test]
    fn addresses_have_a_port_and_may_have_a_user() {
        let parsed = |url| Nats::parse(url).map(|one| (one.host, one.port, one.user));
        let user = Some(("me".to_owned(), "a:b".to_owned()));
        assert_eq!(parsed("nats://host"), Some(("host".into(), 4222, None)));
        assert_eq!(
            parsed("nats://me:a:b@host:1"),
            Some(("host".into(), 1, user))
        );
        for wrong in [
            "host",
            "nats://",
            "nats://:1",
            "nats://host:x",
            "nats://me@host",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_it_says_is_understood_and_else_an_error() {
        let text = "INFO {}\r\nMSG push.a=20b push.a=20b 5\r\nx\r\ny \r\nPING\r\nPONG\r\n\
                    MSG push.c push.c reply 0\r\n\r\n-ERR 'Slow Consumer'\r\nPIN";
        let mut ears = NatsEars(BufReader::new(text.as_bytes()));
        let mut all = Vec::new();
        for _ in 0..7 {
            all.push(match ears.hear() {
                Ok(Heard::Told(name, told)) => format!("{name}: {told:?}"),
                Ok(Heard::Subscribed) => "subscribed".into(),
                Ok(Heard::Asked(answer)) => format!("{answer:?}"),
                Ok(Heard::Else) => "else".into(),
                Err(why) => why,
            });
        }
        let pong = format!("{:?}", b"PONG\r\n");
        let expected = [
            "else",
            "a b: \"x\\r\\ny \"",
            &pong,
            "subscribed",
            "c: \"\"",
            "-ERR 'Slow Consumer'",
            "it ended",
        ];
        assert_eq!(all, expected);
    }
}
