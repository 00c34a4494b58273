//! Head of an HTTP request, read under limits: so many bytes, and (by the caller's
//! `timeout`) so much time.

use std::io::{self, Read, Write};

use tungstenite::http::{Request, Response};

/// The longest head.
const LONGEST: usize = 8 << 10;
/// The most headers.
const HEADERS: usize = 64;

/// What the client has sent before the end of the head, and after it.
pub struct Head {
    /// The request, without its body.
    pub request: Request<()>,
    /// What came after it.
    pub rest: Vec<u8>,
}

/// Reads a head. `None` if the client sent nothing and left.
pub fn read(from: &mut impl Read) -> io::Result<Option<Head>> {
    // On the heap: on a shared stack every byte of a frame is copied.
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        bytes.resize((before + 1024).min(LONGEST), 0);
        if bytes.len() == before {
            return Err(bad(format!("the head is longer than {LONGEST} bytes")));
        }
        let count = from.read(&mut bytes[before..])?;
        bytes.truncate(before + count);
        if count == 0 {
            return match before {
                0 => Ok(None),
                _ => Err(bad("the head has no end")),
            };
        }
        if let Some(head) = parse(&bytes)? {
            return Ok(Some(head));
        }
    }
}

/// `None` if it is not whole.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(bytes).map_err(|why| bad(why.to_string()))? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let mut request = Request::builder()
        .method(head.method.unwrap_or(""))
        .uri(head.path.unwrap_or(""));
    if head.version == Some(0) {
        request = request.version(tungstenite::http::Version::HTTP_10);
    }
    for header in head.headers.iter() {
        request = request.header(header.name, header.value);
    }
    Ok(Some(Head {
        request: request.body(()).map_err(|why| bad(why.to_string()))?,
        rest: bytes[length..].to_vec(),
    }))
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// Sends an answer, the last on its connection.
pub fn answer(to: &mut impl Write, status: u16, kind: &str, body: &str) -> io::Result<()> {
    let response = Response::builder()
        .status(status)
        .header("Content-Type", kind)
        .header("Content-Length", body.len())
        .header("Connection", "close")
        .header("Cache-Control", "no-store")
        .header("X-Content-Type-Options", "nosniff")
        .body(())
        .map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    tungstenite::handshake::server::write_response(&mut bytes, &response)
        .map_err(io::Error::other)?;
    bytes.extend_from_slice(body.as_bytes());
    to.write_all(&bytes)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One byte a read.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn a_head_is_read_however_it_comes() {
        let text = b"GET /ws?name=a HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\nrest";
        for head in [read(&mut &text[..]), read(&mut Drops(text))] {
            let head = head.unwrap().unwrap();
            assert_eq!(head.request.uri().path(), "/ws");
            assert_eq!(head.request.headers()["upgrade"], "websocket");
            assert!(b"rest".starts_with(&head.rest));
        }
        assert!(read(&mut &b""[..]).unwrap().is_none());
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let refused = |bytes: &[u8]| read(&mut &*bytes).err().unwrap().to_string();
        assert_eq!(refused(b"GET / HTTP/1.1\r\n"), "the head has no end");
        let long = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 10_000]].concat();
        assert!(refused(&long).starts_with("the head is longer than "));
        let many = [b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(65)].concat();
        assert_eq!(refused(&many), "too many headers");
        assert!(!refused(b"\x16\x03\x01\x02\x00\x01\r\n\r\n").is_empty());
    }
}
