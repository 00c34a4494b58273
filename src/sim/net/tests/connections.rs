//! TCP as it ought to be.

use super::*;
use crate::sim::chance::Chance;
use crate::sys::fcntl::set_status_flags;
use std::time::Duration;

#[test]
fn a_handshake_takes_a_round_trip() {
    let mut lab = Lab::exact(1);
    let listener = lab.listener(1, "10.0.0.2:80");
    let client = lab.socket(0, libc::SOCK_STREAM);
    // Whoever may wait does it elsewhere.
    for flags in [libc::O_NONBLOCK, 0] {
        set_status_flags(listener.as_raw_fd(), flags).unwrap();
        assert_eq!(lab.accept(&listener).err(), Some(libc::EAGAIN));
    }
    assert_eq!(lab.connect(&client, "10.0.0.2:80"), Err(libc::EINPROGRESS));
    assert_eq!(lab.connect(&client, "10.0.0.2:80"), Err(libc::EALREADY));
    assert_eq!(lab.ready(&client), 0);
    assert_eq!(lab.write(&client, b"early"), Err(libc::EAGAIN));
    assert_eq!(lab.read(&client, 9), Err(libc::EAGAIN));
    assert_eq!(lab.peer(&client), Err(libc::ENOTCONN));
    assert_eq!(lab.until(&listener, libc::POLLIN), MS);
    assert_eq!(lab.ready(&client), 0);
    assert_eq!(lab.until(&client, libc::POLLOUT), 2 * MS);
    assert_eq!(lab.ready(&client), libc::POLLOUT);
    assert_eq!(lab.error(&client), 0);
    assert_eq!(lab.connect(&client, "10.0.0.2:80"), Ok(0));
    assert_eq!(lab.connect(&client, "10.0.0.2:80"), Err(libc::EISCONN));
    let (server, from) = lab.accept(&listener).unwrap();
    assert_eq!(from, lab.local(&client));
    assert_eq!(lab.peer(&server), Ok(from));
    assert_eq!(lab.peer(&client), Ok("10.0.0.2:80".parse().unwrap()));
    assert_eq!(lab.write(&client, b"hello"), Ok(5));
    assert_eq!(lab.read(&server, 9), Err(libc::EAGAIN));
    assert_eq!(lab.until(&server, libc::POLLIN), 3 * MS);
    assert_eq!(lab.read(&server, 9).unwrap(), b"hello");
}

#[test]
fn nobody_listens() {
    let mut lab = Lab::exact(1);
    let client = lab.socket(0, libc::SOCK_STREAM);
    assert_eq!(lab.connect(&client, "10.0.0.2:80"), Err(libc::EINPROGRESS));
    assert_eq!(lab.until(&client, libc::POLLOUT), 2 * MS);
    assert_ne!(lab.ready(&client) & (libc::POLLHUP | libc::POLLERR), 0);
    assert_eq!(lab.error(&client), libc::ECONNREFUSED);
    assert_eq!(lab.error(&client), 0);
    assert_eq!(lab.read(&client, 9), Err(libc::ENOTCONN));
    // The same socket may try again.
    let listener = lab.listener(1, "10.0.0.2:80");
    let again = lab.connect(&client, "10.0.0.2:80");
    assert_eq!(again, Err(libc::ECONNABORTED));
    assert_eq!(lab.connect(&client, "10.0.0.2:80"), Err(libc::EINPROGRESS));
    lab.until(&client, libc::POLLOUT);
    assert_eq!(lab.error(&client), 0);
    lab.accept(&listener).unwrap();
}

#[test]
fn on_one_node_all_is_there_at_once() {
    let mut lab = Lab::new(1);
    for (bound, to) in [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("0.0.0.0:81", "10.0.0.1:81"),
        ("10.0.0.1:82", "10.0.0.1:82"),
        ("0.0.0.0:83", "0.0.0.0:83"),
    ] {
        let listener = lab.listener(0, bound);
        let client = lab.socket(0, libc::SOCK_STREAM);
        assert_eq!(lab.connect(&client, to), Err(libc::EINPROGRESS));
        assert_eq!(lab.connect(&client, to), Ok(0), "{to}");
        let (server, _) = lab.accept(&listener).unwrap();
        lab.write(&client, b"hello").unwrap();
        assert_eq!(lab.read(&server, 9).unwrap(), b"hello");
        lab.write(&server, b"good-bye").unwrap();
        lab.close(server);
        assert_eq!(lab.read(&client, 9).unwrap(), b"good-bye");
        assert_eq!(lab.read(&client, 9).unwrap(), b"");
        assert_eq!(lab.now, 0);
    }
    let other = lab.socket(0, libc::SOCK_STREAM);
    lab.connect(&other, "127.0.0.1:82").unwrap_err();
    let answer = lab.connect(&other, "127.0.0.1:82");
    assert_eq!(answer, Err(libc::ECONNREFUSED), "bound elsewhere");
}

/// What two ends say to each other arrives as it was sent, whatever the links do.
#[test]
fn bytes_arrive_in_order() {
    for seed in 0..20 {
        let mut lab = Lab::new(seed);
        let mut chance = Chance::new(seed);
        lab.links(Link {
            latency: Duration::from_millis(chance.below(50)),
            jitter: Duration::from_millis(chance.below(50)),
            loss: chance.below(30) as f64 / 100.0,
            bandwidth: chance.happens(0.5).then_some(1_000_000),
            ..Link::default()
        });
        let ends = lab.pair();
        let mut bytes = Chance::new(seed);
        let sent: [Vec<u8>; 2] =
            std::array::from_fn(|_| (0..600_000).map(|_| bytes.draw() as u8).collect());
        let (mut written, mut got) = ([0; 2], [Vec::new(), Vec::new()]);
        while got.iter().any(|got| got.len() < sent[0].len()) {
            for end in 0..2 {
                let most = 1 + chance.below(30_000) as usize;
                let rest = &sent[end][written[end]..];
                match lab.write(&ends[end], &rest[..rest.len().min(most)]) {
                    Ok(count) => written[end] += count,
                    Err(code) => assert_eq!(code, libc::EAGAIN),
                }
                match lab.read(&ends[end], most) {
                    Ok(bytes) => got[end].extend(bytes),
                    Err(code) => assert_eq!(code, libc::EAGAIN),
                }
            }
            lab.pass(chance.below(20) * MS);
        }
        assert!(got[0] == sent[1] && got[1] == sent[0], "seed {seed}");
    }
}

#[test]
fn a_slow_reader_stops_the_writer() {
    let mut lab = Lab::new(1);
    let [client, server] = lab.pair();
    let sent = fill(&mut lab, &client);
    assert!((400_000..2_000_000).contains(&sent), "{sent}");
    assert_eq!(lab.ready(&client), 0);
    lab.pass(10 * SECOND);
    assert_eq!(lab.write(&client, b"more"), Err(libc::EAGAIN));
    let mut read = 0;
    while read < sent {
        lab.until(&server, libc::POLLIN);
        read += lab.read(&server, 5000).unwrap().len();
    }
    assert_eq!(lab.ready(&client), libc::POLLOUT);
    assert_eq!(lab.read(&server, 1), Err(libc::EAGAIN));
}

/// Writes until there is no room, and says how much.
fn fill(lab: &mut Lab, end: &OwnedFd) -> usize {
    let mut sent = 0;
    loop {
        match lab.write(end, &[7; 10_000]) {
            Ok(count) => sent += count,
            Err(libc::EAGAIN) if lab.net.next().is_none() => return sent,
            Err(libc::EAGAIN) => lab.pass(MS),
            Err(code) => panic!("{code}"),
        }
    }
}

#[test]
fn the_end_comes_after_all_bytes() {
    let mut lab = Lab::new(1);
    let [client, server] = lab.pair();
    let sent = fill(&mut lab, &client);
    lab.close(client);
    let mut read = 0;
    loop {
        lab.until(&server, libc::POLLIN);
        match lab.read(&server, 5000).unwrap().len() {
            0 => break,
            count => read += count,
        }
    }
    assert_eq!(read, sent);
}

#[test]
fn who_waits_for_room_hears_that_the_reader_is_gone() {
    let mut lab = Lab::exact(1);
    let [client, server] = lab.pair();
    fill(&mut lab, &client);
    // The server gets no answers, and gives up.
    lab.net.partition(0, 1, true);
    lab.write(&server, b"x").unwrap();
    lab.pass(1000 * SECOND);
    assert_eq!(lab.error(&server), libc::ETIMEDOUT);
    lab.net.partition(0, 1, false);
    lab.pass(1000 * SECOND);
    assert_eq!(lab.read(&client, 9).unwrap(), b"x");
    assert_eq!(lab.read(&client, 9), Err(libc::ECONNRESET));
}

#[test]
fn bytes_that_meet_a_close_are_answered_by_a_reset() {
    let mut lab = Lab::exact(1);
    let [client, server] = lab.pair();
    lab.write(&client, b"late").unwrap();
    // The wire sees it when the bytes come.
    drop(server);
    lab.pass(3 * MS);
    assert_eq!(lab.read(&client, 9).unwrap(), b"");
    assert_eq!(lab.write(&client, b"x"), Err(libc::EPIPE));
}

#[test]
fn each_way_ends_by_itself() {
    let mut lab = Lab::exact(1);
    let [client, server] = lab.pair();
    lab.write(&client, b"all").unwrap();
    lab.shut(&client, libc::SHUT_WR);
    assert_eq!(lab.write(&client, b"more"), Err(libc::EPIPE));
    lab.until(&server, libc::POLLIN);
    assert_eq!(lab.read(&server, 9).unwrap(), b"all");
    assert_eq!(lab.read(&server, 9).unwrap(), b"");
    for _ in 0..3 {
        lab.write(&server, b"answer").unwrap();
        lab.until(&client, libc::POLLIN);
        assert_eq!(lab.read(&client, 9).unwrap(), b"answer");
    }
    lab.write(&server, b"last").unwrap();
    lab.close(server);
    lab.pass(MS);
    assert_eq!(lab.read(&client, 9).unwrap(), b"last");
    assert_eq!(lab.read(&client, 9).unwrap(), b"");
    lab.close(client);
    assert!(lab.net.connections.is_empty() && lab.net.next().is_none());
}

#[test]
fn who_writes_to_a_closed_end_gets_a_broken_pipe() {
    let mut lab = Lab::exact(1);
    let [client, server] = lab.pair();
    lab.close(server);
    lab.pass(MS);
    assert_eq!(lab.read(&client, 9).unwrap(), b"");
    // The first is sent, and answered by a reset.
    assert_eq!(lab.write(&client, b"one"), Ok(3));
    lab.pass(2 * MS);
    assert_eq!(lab.write(&client, b"two"), Err(libc::EPIPE));
    assert_eq!(lab.write(&client, b"two"), Err(libc::EPIPE));
    assert_eq!(lab.read(&client, 9).unwrap(), b"");
    assert!(lab.net.connections.is_empty());
}

#[test]
fn a_duplicate_keeps_a_connection_open() {
    let mut lab = Lab::exact(1);
    let [client, server] = lab.pair();
    let other = client.try_clone().unwrap();
    lab.close(client);
    lab.pass(SECOND);
    assert_eq!(lab.read(&server, 9), Err(libc::EAGAIN));
    lab.write(&other, b"still").unwrap();
    lab.until(&server, libc::POLLIN);
    assert_eq!(lab.read(&server, 9).unwrap(), b"still");
    assert_eq!(lab.peer(&other), Ok("10.0.0.2:80".parse().unwrap()));
    lab.close(other);
    lab.until(&server, libc::POLLIN);
    assert_eq!(lab.read(&server, 9).unwrap(), b"");
}

#[test]
fn a_full_backlog_lets_others_try_again() {
    let mut lab = Lab::exact(1);
    let listener = lab.socket(1, libc::SOCK_STREAM);
    lab.bind(&listener, "0.0.0.0:80").unwrap();
    lab.listen(&listener, 1).unwrap();
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let client = lab.socket(0, libc::SOCK_STREAM);
            lab.connect(&client, "10.0.0.2:80").unwrap_err();
            client
        })
        .collect();
    lab.pass(100 * MS);
    // As many as Linux lets wait: one more.
    let ready: Vec<_> = clients.iter().map(|client| lab.ready(client)).collect();
    assert_eq!(ready, [libc::POLLOUT, libc::POLLOUT, 0]);
    lab.pass(3500 * MS);
    assert_eq!(lab.ready(&clients[2]), 0);
    let mut order = Vec::new();
    for _ in 0..2 {
        order.push(lab.accept(&listener).unwrap().1);
    }
    // After 1, 3, and now 7 seconds.
    let third = lab.until(&clients[2], libc::POLLOUT);
    assert!(
        (7 * SECOND..7 * SECOND + 10 * MS).contains(&third),
        "{third}"
    );
    order.push(lab.accept(&listener).unwrap().1);
    let names: Vec<_> = clients.iter().map(|client| lab.local(client)).collect();
    assert_eq!(order, names);
}

#[test]
fn a_closed_listener_resets_who_waits() {
    let mut lab = Lab::exact(1);
    let listener = lab.listener(1, "0.0.0.0:80");
    let client = lab.socket(0, libc::SOCK_STREAM);
    lab.connect(&client, "10.0.0.2:80").unwrap_err();
    lab.until(&client, libc::POLLOUT);
    lab.close(listener);
    lab.pass(MS);
    assert_eq!(lab.read(&client, 9), Err(libc::ECONNRESET));
    let late = lab.socket(0, libc::SOCK_STREAM);
    lab.connect(&late, "10.0.0.2:80").unwrap_err();
    lab.until(&late, libc::POLLOUT);
    assert_eq!(lab.error(&late), libc::ECONNREFUSED);
}

#[test]
fn who_gives_up_leaves_nothing() {
    let mut lab = Lab::exact(1);
    let listener = lab.listener(1, "0.0.0.0:80");
    // Before the first packet has come, and after.
    for (after, accepted) in [(MS / 2, false), (MS + MS / 2, true)] {
        let client = lab.socket(0, libc::SOCK_STREAM);
        lab.connect(&client, "10.0.0.2:80").unwrap_err();
        lab.pass(after);
        lab.close(client);
        lab.pass(SECOND);
        let server = lab.accept(&listener);
        assert_eq!(server.is_ok(), accepted);
        if let Ok((server, _)) = server {
            assert_eq!(lab.read(&server, 9), Err(libc::ECONNRESET));
            assert_eq!(lab.read(&server, 9).unwrap(), b"");
        }
        assert!(lab.net.connections.is_empty() && lab.net.next().is_none());
    }
}

/// The descriptors that others take meanwhile change nothing.
#[test]
fn the_seed_decides_all() {
    use std::sync::atomic::{AtomicBool, Ordering};
    fn history(seed: u64) -> Vec<(Nanos, usize, Vec<u8>)> {
        let mut lab = Lab::new(seed);
        lab.links(Link {
            loss: 0.02,
            ..Link::default()
        });
        let listener = lab.listener(1, "0.0.0.0:80");
        let clients: Vec<_> = (0..5)
            .map(|_| {
                let client = lab.socket(0, libc::SOCK_STREAM);
                lab.connect(&client, "10.0.0.2:80").unwrap_err();
                client
            })
            .collect();
        let (mut servers, mut seen) = (Vec::new(), Vec::new());
        for round in 0..250_u32 {
            if let Ok((server, from)) = lab.accept(&listener) {
                seen.push((lab.now, servers.len(), from.to_string().into_bytes()));
                servers.push(server);
            }
            for client in &clients {
                // It may not be connected.
                let _ = lab.write(client, &round.to_ne_bytes());
            }
            for (at, server) in servers.iter().enumerate() {
                if let Ok(bytes) = lab.read(server, 100) {
                    seen.push((lab.now, at, bytes));
                }
            }
            lab.pass(MS);
        }
        seen
    }
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stopped);
        scope.spawn(|| {
            while !stopped.load(Ordering::Relaxed) {
                drop(std::fs::File::open("/dev/null"));
            }
        });
        let first = history(1);
        assert!(first.len() > 100);
        assert!((0..100).all(|_| history(1) == first));
        assert_ne!(history(2), first);
    });
}
