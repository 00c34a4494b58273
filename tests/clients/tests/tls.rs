//! TLS over `std::net`: the crate `rustls` on both sides, and OpenSSL by the
//! crate `native-tls` as a client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use crore::sync::Barrier;
use crore_clients::{MOMENT, crowd, each, listen, on_one_thread, overlapped};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

const CROWD: usize = 1000;

/// A server's key and a certificate for `localhost`, signed by itself.
struct Identity {
    server: Arc<ServerConfig>,
    certificate: Vec<u8>,
}

impl Identity {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self {
            server: Arc::new(server),
            certificate: made.cert.der().to_vec(),
        }
    }

    /// A client that trusts this certificate and no other.
    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone().into()).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    /// Serves connections in coroutines: a handshake, `pause`, then an echo
    /// until the client says good-bye.
    fn serve(&self, pause: impl Fn() + Clone + 'static) -> SocketAddr {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let config = Arc::clone(&self.server);
        crore::spawn_local(move || {
            while let Ok((stream, _)) = listener.accept() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut tls = rustls::StreamOwned::new(connection, stream);
                let pause = pause.clone();
                crore::spawn_local(move || {
                    let mut buffer = [0; 4096];
                    let mut paused = false;
                    // A client that does not trust us hangs up: an error here.
                    while let Ok(n @ 1..) = tls.read(&mut buffer) {
                        if !paused {
                            pause();
                            paused = true;
                        }
                        tls.write_all(&buffer[..n]).unwrap();
                    }
                });
            }
        });
        address
    }
}

fn rustls_client(
    config: &Arc<ClientConfig>,
    server: SocketAddr,
) -> rustls::StreamOwned<ClientConnection, TcpStream> {
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    rustls::StreamOwned::new(connection, TcpStream::connect(server).unwrap())
}

/// Sends `sent` and returns what came back.
fn echo(mut tls: impl Read + Write, sent: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    // Less than the server's buffers at a time: it answers while it reads.
    for piece in sent.chunks(4000) {
        tls.write_all(piece).unwrap();
        tls.flush().unwrap();
        let start = got.len();
        got.resize(start + piece.len(), 0);
        tls.read_exact(&mut got[start..]).unwrap();
    }
    got
}

fn word(i: usize) -> Vec<u8> {
    format!("{i} ").repeat(5_000).into_bytes()
}

#[test]
fn handshakes_and_echoes_at_one_time() {
    on_one_thread(|| {
        let identity = Identity::new();
        let barrier = Arc::new(Barrier::new(CROWD));
        // Nobody gets an echo before all have shaken hands.
        let server = identity.serve(move || {
            barrier.wait();
        });
        let client = identity.client();
        let (answers, _) = crowd(CROWD, move |i| {
            echo(rustls_client(&client, server), &word(i)) == word(i)
        });
        each(&answers, |_| true);
    });
}

#[test]
fn waits_end_together() {
    on_one_thread(|| {
        let identity = Identity::new();
        let server = identity.serve(|| std::thread::sleep(MOMENT));
        let client = identity.client();
        let (answers, took) = crowd(CROWD, move |i| {
            echo(rustls_client(&client, server), &i.to_be_bytes()) == i.to_be_bytes()
        });
        each(&answers, |_| true);
        overlapped("rustls, handshakes included", CROWD, took);
    });
}

#[test]
fn a_stranger_is_refused() {
    on_one_thread(|| {
        let server = Identity::new().serve(|| {});
        let client = Identity::new().client();
        let (refused, _) = crowd(100, move |_| {
            let error = rustls_client(&client, server)
                .write_all(b"hello")
                .unwrap_err();
            let error = error
                .get_ref()
                .and_then(|it| it.downcast_ref::<rustls::Error>());
            matches!(error, Some(rustls::Error::InvalidCertificate(_)))
        });
        each(&refused, |_| true);
    });
}

#[test]
fn openssl_talks_to_rustls() {
    on_one_thread(|| {
        let identity = Identity::new();
        let barrier = Arc::new(Barrier::new(CROWD));
        let server = identity.serve(move || {
            barrier.wait();
        });
        let root = native_tls::Certificate::from_der(&identity.certificate).unwrap();
        let connector = native_tls::TlsConnector::builder()
            .disable_built_in_roots(true)
            .add_root_certificate(root)
            .build()
            .unwrap();
        let (answers, _) = crowd(CROWD, move |i| {
            let stream = TcpStream::connect(server).unwrap();
            echo(connector.connect("localhost", stream).unwrap(), &word(i)) == word(i)
        });
        each(&answers, |_| true);
    });
}
