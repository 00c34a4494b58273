//! A coroutine blocked in read is told to end. Cancelling it fails its read, and its
//! goodbye as well; a token ends its read only. And a drain always took its whole grace
//! if anything was left that never ends by itself.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

fn goodbye(stream: &mut UnixStream) -> String {
    let mut buffer = [0; 8];
    let read = stream.read(&mut buffer);
    let wrote = stream.write_all(b"BYE");
    format!("read {read:?}, goodbye {wrote:?}")
}

fn peer(mut here: UnixStream) {
    let mut said = String::new();
    here.read_to_string(&mut said).unwrap();
    println!("  peer got {said:?}");
}

fn cancelled() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let connection = crore::spawn(move || goodbye(&mut there));
    crore::yield_now();
    connection.cancel();
    println!("cancel: {:?}", connection.join());
    peer(here);
}

fn asked() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let server = crore::CancelToken::new();
    let token = server.child();
    let connection = crore::spawn(move || token.bind(|| goodbye(&mut there)));
    crore::yield_now();
    server.cancel();
    println!("token: {:?}", connection.join());
    peer(here);
}

/// How long a drain of 3 s takes beside an acceptor that nobody connects to.
fn drain(spawn: impl FnOnce(fn()) + Send) {
    let begun = Instant::now();
    let runtime = crore::Runtime::builder().drain(Duration::from_secs(3));
    let main = || {
        spawn(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let _ = listener.accept();
        });
        crore::sleep(Duration::from_millis(10));
    };
    runtime.build().unwrap().run(main).unwrap();
    let whole = begun.elapsed() >= Duration::from_secs(3);
    let took = if whole { "its whole grace" } else { "no grace" };
    println!("drain with one idle acceptor and no connection: {took}");
}

pub(crate) fn main() {
    crore::run(|| {
        cancelled();
        asked();
    })
    .unwrap();
    drain(|acceptor| {
        let builder = crore::Builder::new().name("metrics accept".into());
        builder.daemon(true).spawn(acceptor).unwrap();
    });
    let server = crore::CancelToken::new();
    let token = server.clone();
    drain(move |acceptor| {
        crore::spawn(move || token.bind(acceptor));
        crore::spawn(move || {
            crore::yield_now();
            server.cancel();
        });
    });
}
