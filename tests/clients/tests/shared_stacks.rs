//! The clients on shared stacks: a thousand of them on the eight stacks of a
//! worker, their frames copied away while they wait.
//!
//! With `CRORE_CHECK_SHARED=1` in the environment the runtime closes the
//! memory of each that waits: a client that breaks the contract is then named.
//!
//! The promise that `shared_crowd` asks for, for all of these: the clients and
//! their buffers belong to one coroutine each. They talk to the kernel by
//! hooked calls only, and none of them has threads that know of its locals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use crore_clients::{
    MOMENT, SlowHttp, each, hiredis, listen, on_one_thread, overlapped, redis_server, shared_crowd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const CROWD: usize = 1000;

#[test]
fn redis() {
    let server = redis_server();
    on_one_thread(|| {
        let url = format!("redis://{}/", server.address());
        let one = move |i: usize| {
            let client = redis::Client::open(url.as_str()).unwrap();
            let mut connection = client.get_connection().unwrap();
            let nothing: Option<(String, String)> = redis::cmd("BLPOP")
                .arg("never")
                .arg(0.1)
                .query(&mut connection)
                .unwrap();
            assert_eq!(nothing, None);
            redis::cmd("ECHO")
                .arg(i)
                .query::<usize>(&mut connection)
                .unwrap()
        };
        // SAFETY: see above.
        let (answers, took) = unsafe { shared_crowd(CROWD, one) };
        each(&answers, |i| i);
        overlapped("redis, shared stacks", CROWD, took);
    });
}

#[test]
fn hiredis_in_c() {
    let server = redis_server();
    on_one_thread(|| {
        let address = server.address();
        let one = move |i: usize| {
            let (own, value) = (format!("own {i}"), i.to_string());
            hiredis::blpop(address, (&own, &value), ("never", "0.1"), None)
        };
        // SAFETY: see above.
        let (answers, took) = unsafe { shared_crowd(CROWD, one) };
        each(&answers, |_| Ok(None));
        overlapped("hiredis, shared stacks", CROWD, took);
    });
}

#[test]
fn ureq() {
    on_one_thread(|| {
        let server = SlowHttp::start(0);
        let base = server.url("delay/100");
        let one = move |i: usize| {
            let mut answer = ureq::get(format!("{base}/{i}")).call().unwrap();
            answer.body_mut().read_to_string().unwrap()
        };
        // SAFETY: see above.
        let (answers, took) = unsafe { shared_crowd(CROWD, one) };
        each(&answers, |i| i.to_string());
        overlapped("ureq, shared stacks", CROWD, took);
    });
}

#[test]
fn libcurl() {
    on_one_thread(|| {
        let server = SlowHttp::start(0);
        let base = server.url("delay/100");
        let one = move |i: usize| {
            let mut easy = curl::easy::Easy::new();
            easy.url(&format!("{base}/{i}")).unwrap();
            easy.signal(false).unwrap();
            let mut body = Vec::new();
            let mut transfer = easy.transfer();
            let write = |data: &[u8]| {
                body.extend_from_slice(data);
                Ok(data.len())
            };
            transfer.write_function(write).unwrap();
            transfer.perform().unwrap();
            drop(transfer);
            String::from_utf8(body).unwrap()
        };
        // SAFETY: see above; libcurl calls back on our own stack.
        let (answers, took) = unsafe { shared_crowd(CROWD, one) };
        each(&answers, |i| i.to_string());
        overlapped("libcurl, shared stacks", CROWD, took);
    });
}

#[test]
fn tungstenite_on_both_sides() {
    on_one_thread(|| {
        let listener = listen();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let server = crore::spawn_local(move || {
            let serve = move |_| {
                let (stream, _) = listener.accept().unwrap();
                let mut socket = tungstenite::accept(stream).unwrap();
                let message = socket.read().unwrap();
                std::thread::sleep(MOMENT);
                socket.send(message).unwrap();
                let _ = socket.read();
            };
            // SAFETY: see above.
            unsafe { shared_crowd(CROWD, serve) };
        });
        let one = move |i: usize| {
            let (mut socket, _) = tungstenite::connect(&url).unwrap();
            let sent = tungstenite::Message::binary(vec![i as u8; i]);
            socket.send(sent.clone()).unwrap();
            socket.read().unwrap() == sent
        };
        // SAFETY: see above.
        let (answers, took) = unsafe { shared_crowd(CROWD, one) };
        each(&answers, |_| true);
        overlapped("tungstenite, shared stacks", CROWD, took);
        server.join().unwrap();
    });
}

#[test]
fn rustls_on_both_sides() {
    on_one_thread(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let certificate = made.cert.der().clone();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let serving = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let (serving, asking) = (
            Arc::new(serving),
            Arc::new(
                rustls::ClientConfig::builder()
                    .with_root_certificates(roots)
                    .with_no_client_auth(),
            ),
        );
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let server = crore::spawn_local(move || {
            let serve = move |_| {
                let (stream, _) = listener.accept().unwrap();
                let connection = rustls::ServerConnection::new(Arc::clone(&serving)).unwrap();
                let mut tls = rustls::StreamOwned::new(connection, stream);
                let mut word = [0; 8];
                tls.read_exact(&mut word).unwrap();
                std::thread::sleep(MOMENT);
                tls.write_all(&word).unwrap();
            };
            // SAFETY: see above.
            unsafe { shared_crowd(CROWD, serve) };
        });
        let one = move |i: usize| {
            let name = "localhost".try_into().unwrap();
            let connection = rustls::ClientConnection::new(Arc::clone(&asking), name).unwrap();
            let stream = TcpStream::connect(address).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream);
            let mut word = [0; 8];
            tls.write_all(&i.to_be_bytes()).unwrap();
            tls.read_exact(&mut word).unwrap();
            usize::from_be_bytes(word)
        };
        // SAFETY: see above.
        let (answers, took) = unsafe { shared_crowd(CROWD, one) };
        each(&answers, |i| i);
        overlapped("rustls, shared stacks", CROWD, took);
        server.join().unwrap();
    });
}
