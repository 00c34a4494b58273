//! Another runtime's event loop inside a coroutine: tokio's `epoll_wait` parks
//! the coroutine on tokio's epoll, and the others go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::hook_common::in_coroutines;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A current-thread runtime.
fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .unwrap()
}

async fn echo_once(words: usize) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut word = [0; 4];
        while peer.read_exact(&mut word).await.is_ok() {
            peer.write_all(&word).await.unwrap();
        }
    };
    let client = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let mut word = [0; 4];
        for _ in 0..words {
            stream.write_all(b"ping").await.unwrap();
            stream.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"ping");
        }
        words
    };
    let ((), words) = futures_join(server, client).await;
    words
}

/// Both, on one task.
async fn futures_join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (Box::pin(a), Box::pin(b));
    let (mut x, mut y) = (None, None);
    std::future::poll_fn(|cx| {
        if x.is_none()
            && let std::task::Poll::Ready(value) = a.as_mut().poll(cx)
        {
            x = Some(value);
        }
        if y.is_none()
            && let std::task::Poll::Ready(value) = b.as_mut().poll(cx)
        {
            y = Some(value);
        }
        match (x.take(), y.take()) {
            (Some(x), Some(y)) => std::task::Poll::Ready((x, y)),
            (left, right) => {
                (x, y) = (left, right);
                std::task::Poll::Pending
            }
        }
    })
    .await
}

#[test]
fn a_tokio_runtime_parks_its_coroutine_only() {
    in_coroutines(|_| {
        let turns = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&turns);
        let other = crore::spawn(move || {
            // Sleeps between its turns: it has them only if nobody blocks.
            while theirs.fetch_add(1, Ordering::SeqCst) < 20 {
                crore::sleep(Duration::from_millis(1));
            }
        });
        let runtime = tokio();
        // For as long as it takes the other to have all its turns.
        let seen = Arc::clone(&turns);
        runtime.block_on(async move {
            while seen.load(Ordering::SeqCst) <= 20 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert_eq!(runtime.block_on(echo_once(50)), 50);
        other.join().unwrap();
    });
}
