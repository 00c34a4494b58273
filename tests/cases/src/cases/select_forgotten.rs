//! A `select` future that is forgotten while it waits. Its node stayed in the channel, so that
//! a value was sent to nobody, and the channel never ended. Right: it is kept, or passed on.

use crore::sync::channel;
use std::{
    future::Future,
    task::{Context, Waker},
    time::Duration,
};
pub(crate) fn main() {
    crore::run(|| {
        let (tx, rx) = channel::bounded::<i32>(0);
        let mut case = rx.case();
        {
            let mut all: [&mut (dyn channel::Case + Send); 1] = [&mut case];
            let mut select = Box::pin(channel::select_async(&mut all));
            let _ = select
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            std::mem::forget(select);
        }
        let sender = crore::spawn(move || tx.send(5));
        println!("recv {:?}", rx.recv_timeout(Duration::from_millis(100)));
        println!("send {:?}, case {:?}", sender.join().unwrap(), case.take());
        println!(
            "no senders left: recv {:?} (should be Disconnected)",
            rx.recv_timeout(Duration::from_millis(100))
        );
    })
    .unwrap();
}
