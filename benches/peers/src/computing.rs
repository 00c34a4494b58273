//! A service that computes for each request, for what several workers are worth: its
//! clients, and the service on tokio. An answer says which thread has computed it.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes of a request and of an answer.
pub const BYTES: usize = 8;
/// What a request takes.
pub const WORK: Duration = Duration::from_micros(45);
/// Connections, and the time between two of them.
const CLIENTS: usize = 64;
const TRICKLE: Duration = Duration::from_micros(500);

/// The answer to a request: the number of this thread, after [`WORK`].
pub fn answer() -> [u8; BYTES] {
    static THREADS: AtomicU8 = AtomicU8::new(0);
    thread_local!(static NUMBER: Cell<u8> = Cell::new(THREADS.fetch_add(1, Relaxed)));
    let begin = Instant::now();
    while begin.elapsed() < WORK {
        std::hint::spin_loop();
    }
    [NUMBER.get(); BYTES]
}

/// The service on tokio.
///
/// # Errors
///
/// Those of the listener.
pub fn serve_on_tokio(workers: usize, listener: TcpListener) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(workers).enable_all().build()?;
    listener.set_nonblocking(true)?;
    runtime.block_on(async {
        // The acceptor is a task, too: the main one runs on no worker.
        let accept = async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (mut stream, _) = listener.accept().await?;
                tokio::spawn(async move {
                    let mut request = [0; BYTES];
                    while stream.read_exact(&mut request).await.is_ok()
                        && stream.write_all(&answer()).await.is_ok()
                    {}
                });
            }
        };
        tokio::spawn(accept).await.expect("it does not panic")
    })
}

/// Answers by the thread that computed them, of clients that come one after the other and
/// then ask for `time`.
///
/// # Errors
///
/// Those of the connections.
pub fn load(address: SocketAddr, time: Duration) -> io::Result<[u64; 256]> {
    static COUNTS: AtomicBool = AtomicBool::new(false);
    static OVER: AtomicBool = AtomicBool::new(false);
    COUNTS.store(false, Relaxed);
    OVER.store(false, Relaxed);
    let ask = move || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let (mut answers, mut bytes) = ([0; 256], [0; BYTES]);
        while !OVER.load(Relaxed) {
            stream.write_all(&bytes)?;
            stream.read_exact(&mut bytes)?;
            answers[usize::from(bytes[0])] += u64::from(COUNTS.load(Relaxed));
        }
        io::Result::Ok(answers)
    };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            thread::sleep(TRICKLE);
            thread::spawn(ask)
        })
        .collect();
    COUNTS.store(true, Relaxed);
    thread::sleep(time);
    OVER.store(true, Relaxed);
    let mut sum = [0; 256];
    for client in clients {
        let answers: [u64; 256] = client.join().expect("it does not panic")?;
        sum.iter_mut().zip(answers).for_each(|(sum, n)| *sum += n);
    }
    Ok(sum)
}
