//! Gateway: accepts connections, finds out what each wants, and serves it.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crore::io::Listener;
use crore::{Builder, CancelToken};
use tungstenite::handshake::server::{create_response, write_response};

use crate::config::Stacks;
use crate::head::{self, Head};
use crate::protocol::LONGEST_NAME;
use crate::service::Service;
use crate::session::Session;
use crate::transport::Transport;

/// The page: a chat room.
const PAGE: &str = include_str!("page.html");
/// What is touched of it is what it costs.
const STACK: usize = 256 << 10;

/// A place among the connections that may be open at a time.
pub struct Permit(Arc<Service>);

impl Permit {
    /// `None` if there are as many as may be.
    pub fn take(service: &Arc<Service>) -> Option<Self> {
        let permit = Self(service.clone());
        service.counters.connections.add(1);
        let open = service.counters.connections.get();
        (open <= service.config().connections as u64).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.counters.connections.sub(1);
    }
}

/// Accepts until it is asked to end; serves each connection in a coroutine of its own,
/// on this worker.
pub fn accept(listener: &Listener, service: &Arc<Service>, server: &CancelToken) {
    while let Ok((mut socket, _)) = listener.accept() {
        service.counters.accepted.add(1);
        let Some(permit) = Permit::take(service) else {
            service.counters.refused_full.add(1);
            // It fits into the socket's buffer, so this does not wait.
            let _ = socket.write_all(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\r\n",
            );
            continue;
        };
        let (service, server) = (service.clone(), server.clone());
        let stacks = service.config().stacks;
        let serve = move || serve(socket, permit, service, server);
        let builder = Builder::new().stack_size(STACK);
        let spawned = match stacks {
            Stacks::Own => builder.spawn_local(serve).map(drop),
            // SAFETY: `serve` and all that it calls have their buffers and whatever others
            // point to on the heap; what goes to other coroutines is moved.
            Stacks::Shared => unsafe { builder.spawn_shared(serve) }.map(drop),
        };
        if let Err(why) = spawned {
            eprintln!("push: a connection could not be served: {why}");
        }
    }
}

/// Serves one connection, from its first byte to its last, until it or the server ends.
pub fn serve(socket: TcpStream, permit: Permit, service: Arc<Service>, server: CancelToken) {
    let stacks = service.config().stacks;
    let opened = server.bind(|| open(socket, permit, service));
    let Some(mut session) = opened else { return };
    match stacks {
        Stacks::Own => talk_here(session, &server),
        Stacks::Shared => talk(&mut session, &server),
    }
}

/// In the page that a stack of its own has anyway, there is room for the session.
#[inline(never)]
fn talk_here(session: Box<Session>, server: &CancelToken) {
    // In a function, so that the box is gone before the talk, and not after it.
    let unboxed = |session: Box<Session>| *session;
    talk(&mut unboxed(session), server);
}

fn talk(session: &mut Session, server: &CancelToken) {
    let end = server.bind(|| session.run());
    session.close(end);
}

/// The handshake. Its frames are gone while the session waits.
#[inline(never)]
fn open(socket: TcpStream, permit: Permit, service: Arc<Service>) -> Option<Box<Session>> {
    let limit = Duration::from_millis(service.config().handshake_ms);
    let asked = service.clone();
    let opened = crore::timeout(limit, move || {
        // A client that does not take what it is sent has the same limit.
        let mut transport = Transport::new(socket, service.tls())?;
        let Some(head) = head::read(&mut transport).inspect_err(|_| ())? else {
            return Ok(None);
        };
        route(transport, head, permit, service)
    });
    match opened {
        Ok(Ok(session)) => session,
        Ok(Err(_)) | Err(_) => {
            asked.counters.bad_handshakes.add(1);
            None
        }
    }
}

fn route(
    mut transport: Transport,
    head: Head,
    permit: Permit,
    service: Arc<Service>,
) -> io::Result<Option<Box<Session>>> {
    let (uri, method) = (head.request.uri(), head.request.method());
    if method != "GET" {
        return refuse(&mut transport, 405, "only GET is here");
    }
    match uri.path() {
        "/ws" => {}
        "/" => {
            head::answer(&mut transport, 200, "text/html; charset=utf-8", PAGE)?;
            let _ = transport.finish();
            return Ok(None);
        }
        _ => return refuse(&mut transport, 404, "here are / and /ws"),
    }
    if !service.is_ready() {
        return refuse(&mut transport, 503, "this node is about to end");
    }
    let name = name(uri.query().unwrap_or(""));
    let response = match create_response(&head.request) {
        Ok(response) => response,
        Err(why) => return refuse(&mut transport, 400, &why.to_string()),
    };
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(io::Error::other)?;
    transport.write_all(&bytes)?;
    Session::new(transport, head.rest, service, name, permit).map(Some)
}

fn refuse<T>(transport: &mut Transport, status: u16, why: &str) -> io::Result<T> {
    head::answer(
        transport,
        status,
        "text/plain; charset=utf-8",
        &format!("{why}\n"),
    )?;
    let _ = transport.finish();
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// What the client calls itself: `name=…` of the query, without what HTML or a log might
/// take for more than a name.
fn name(query: &str) -> String {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let name = pairs
        .find(|(key, _)| *key == "name")
        .map_or("", |(_, value)| value);
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    name.chars().filter(plain).take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_name_is_plain() {
        assert_eq!(name("a=1&name=ann-1"), "ann-1");
        assert_eq!(name("name=<b>&x"), "b");
        assert_eq!(name(""), "");
        assert_eq!(name(&format!("name={}", "a".repeat(1000))).len(), 128);
    }
}
