//! The crate `tungstenite`: WebSocket clients and servers over `std::net`.

use std::sync::Arc;
use std::time::Duration;

use crore::sync::Barrier;
use crore_clients::{MOMENT, crowd, each, listen, on_one_thread, overlapped};
use tungstenite::{Message, WebSocket};

const CROWD: usize = 1000;

/// Serves `CROWD` connections, each in a coroutine by `serve`.
fn server(serve: impl Fn(WebSocket<std::net::TcpStream>) + Clone + 'static) -> String {
    let listener = listen();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    crore::spawn_local(move || {
        for _ in 0..CROWD {
            let (stream, _) = listener.accept().unwrap();
            let serve = serve.clone();
            crore::spawn_local(move || serve(tungstenite::accept(stream).unwrap()));
        }
    });
    url
}

#[test]
fn a_thousand_conversations_at_one_time() {
    on_one_thread(|| {
        let barrier = Arc::new(Barrier::new(CROWD));
        // Nobody gets an echo before all have asked for one.
        let url = server(move |mut socket| {
            let mut first = true;
            while let Ok(message) = socket.read() {
                if std::mem::take(&mut first) {
                    barrier.wait();
                }
                if message.is_text() || message.is_binary() {
                    socket.send(message).unwrap();
                }
            }
        });
        let (answers, _) = crowd(CROWD, move |i| {
            let (mut socket, _) = tungstenite::connect(&url).unwrap();
            let mut right = 0;
            for round in 0..3 {
                let sent = match round {
                    0 => Message::text(i.to_string()),
                    1 => Message::binary(vec![i as u8; 20_000]),
                    _ => Message::text("é".repeat(i)),
                };
                socket.send(sent.clone()).unwrap();
                right += usize::from(socket.read().unwrap() == sent);
            }
            socket.close(None).unwrap();
            loop {
                match socket.read() {
                    Ok(_) => {}
                    Err(tungstenite::Error::ConnectionClosed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            right
        });
        each(&answers, |_| 3);
    });
}

#[test]
fn a_thousand_waits_end_together() {
    on_one_thread(|| {
        let url = server(|mut socket| {
            let message = socket.read().unwrap();
            std::thread::sleep(MOMENT);
            socket.send(message).unwrap();
            let _ = socket.read();
        });
        let (answers, took) = crowd(CROWD, move |i| {
            let (mut socket, _) = tungstenite::connect(&url).unwrap();
            socket.send(Message::text(i.to_string())).unwrap();
            socket.read().unwrap().into_text().unwrap().to_string()
        });
        each(&answers, |i| i.to_string());
        overlapped("tungstenite", CROWD, took);
    });
}

#[test]
fn a_read_timeout_leaves_the_socket_usable() {
    on_one_thread(|| {
        let barrier = Arc::new(Barrier::new(2 * CROWD));
        let answering = barrier.clone();
        let url = server(move |mut socket| {
            // Until every client has seen its timeout.
            answering.wait();
            socket.send(Message::text("late")).unwrap();
            let _ = socket.read();
        });
        let (answers, _) = crowd(CROWD, move |_| {
            let (mut socket, _) = tungstenite::connect(&url).unwrap();
            let tungstenite::stream::MaybeTlsStream::Plain(stream) = socket.get_ref() else {
                unreachable!("no TLS was asked for")
            };
            stream
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            let early = match socket.read() {
                Err(tungstenite::Error::Io(error)) => error.kind(),
                other => panic!("{other:?}"),
            };
            barrier.wait();
            let late = loop {
                match socket.read() {
                    Ok(message) => break message.into_text().unwrap().to_string(),
                    Err(tungstenite::Error::Io(error)) if error.kind() == early => {}
                    Err(error) => panic!("{error}"),
                }
            };
            (early, late)
        });
        each(&answers, |_| {
            (std::io::ErrorKind::WouldBlock, "late".into())
        });
    });
}
