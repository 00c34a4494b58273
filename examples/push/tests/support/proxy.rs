//! A network between two programs, which can be cut.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Forwards whatever comes. While it is cut nothing comes through and nobody is told, as
/// with a cable that is pulled.
pub struct Proxy {
    pub address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Proxy {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = is_cut.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let cut = cut.clone();
                std::thread::spawn(move || forward(socket, target, &cut));
            }
        });
        Self { address, is_cut }
    }

    pub fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }
}

fn forward(client: TcpStream, target: SocketAddr, cut: &Arc<AtomicBool>) {
    await_mended(cut);
    let Ok(server) = TcpStream::connect(target) else {
        return;
    };
    let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let cut_too = cut.clone();
    std::thread::spawn(move || copy(server_too, client_too, &cut_too));
    copy(client, server, cut);
}

fn await_mended(cut: &AtomicBool) {
    while cut.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    from.set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    to.set_nodelay(true).unwrap();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => count,
            Err(why) if why.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        await_mended(cut);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    await_mended(cut);
    // Either side may be gone already.
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
