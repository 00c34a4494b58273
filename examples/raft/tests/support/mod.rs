//! What the tests share.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use crore_raft::config::Member;

/// Members at a loopback address that no other test uses, so that a node that comes back
/// finds its port free.
pub fn members(size: usize) -> Vec<Member> {
    static CLUSTERS: AtomicU32 = AtomicU32::new(1);
    let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let host = format!("127.{}.{high}.{low}", 64 + cluster);
    let listeners: Vec<_> = (0..size)
        .map(|_| TcpListener::bind((host.as_str(), 0)).unwrap())
        .collect();
    let named = listeners.iter().zip('a'..).map(|(listener, name)| Member {
        name: name.into(),
        address: listener.local_addr().unwrap().to_string(),
    });
    named.collect()
}
