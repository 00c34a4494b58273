//! What goes wrong on the way, and what programs hear of it.

use super::*;
use std::time::Duration;

const NOBODY_ANSWERS: std::ops::Range<Nanos> = 127 * SECOND..128 * SECOND;

#[test]
fn a_cut_link_lets_connecting_time_out() {
    for (from, to) in [(0, 1), (1, 0)] {
        let mut lab = Lab::exact(1);
        lab.net.partition(from, to, true);
        let _listener = lab.listener(1, "0.0.0.0:80");
        let client = lab.socket(0, libc::SOCK_STREAM);
        lab.connect(&client, "10.0.0.2:80").unwrap_err();
        let ended = lab.until(&client, libc::POLLOUT);
        assert!(NOBODY_ANSWERS.contains(&ended), "{ended}");
        assert_eq!(lab.error(&client), libc::ETIMEDOUT);
        assert!(lab.net.connections.is_empty() && lab.net.next().is_none());
    }
}

#[test]
fn connecting_goes_on_when_the_link_is_whole_again() {
    let mut lab = Lab::exact(1);
    lab.cut(true);
    let _listener = lab.listener(1, "0.0.0.0:80");
    let client = lab.socket(0, libc::SOCK_STREAM);
    lab.connect(&client, "10.0.0.2:80").unwrap_err();
    lab.pass(2 * SECOND);
    lab.cut(false);
    assert_eq!(lab.until(&client, libc::POLLOUT), 3 * SECOND + 2 * MS);
    assert_eq!(lab.error(&client), 0);
}

#[test]
fn bytes_wait_until_the_link_is_whole_again() {
    let mut lab = Lab::exact(1);
    let [client, server] = lab.pair();
    lab.cut(true);
    let begin = lab.now;
    for piece in [b"one ", b"two "] {
        lab.write(&client, piece).unwrap();
    }
    lab.pass(SECOND);
    lab.cut(false);
    lab.write(&client, b"three").unwrap();
    // 200 + 400 + 800 ms.
    assert_eq!(lab.until(&server, libc::POLLIN) - begin, 1401 * MS);
    assert_eq!(lab.read(&server, 99).unwrap(), b"one two three");
}

#[test]
fn who_gets_no_answer_gives_up() {
    for one_way in [false, true] {
        let mut lab = Lab::exact(1);
        let [client, server] = lab.pair();
        lab.net.partition(1, 0, true);
        if !one_way {
            lab.net.partition(0, 1, true);
        }
        let begin = lab.now;
        lab.write(&client, b"anyone?").unwrap();
        let ended = lab.until(&client, libc::POLLIN) - begin;
        assert!((900 * SECOND..1100 * SECOND).contains(&ended), "{ended}");
        assert_eq!(lab.read(&client, 9), Err(libc::ETIMEDOUT));
        assert_eq!(lab.read(&client, 9).unwrap(), b"");
        let arrived = lab.read(&server, 9);
        assert_eq!(arrived.is_ok(), one_way);
        // The other end learns it when it sends.
        lab.cut(false);
        lab.write(&server, b"hello").unwrap();
        lab.pass(2 * MS);
        assert_eq!(lab.read(&server, 9), Err(libc::ECONNRESET));
        assert!(lab.net.connections.is_empty());
    }
}

#[test]
fn a_program_chooses_how_long_it_waits_for_an_answer() {
    let mut lab = Lab::exact(1);
    let [client, _server] = lab.pair();
    let name = libc::TCP_USER_TIMEOUT;
    lab.set(&client, libc::IPPROTO_TCP, name, 5000_u32).unwrap();
    lab.cut(true);
    let begin = lab.now;
    lab.write(&client, b"anyone?").unwrap();
    let ended = lab.until(&client, libc::POLLIN) - begin;
    assert!((5 * SECOND..8 * SECOND).contains(&ended), "{ended}");
    assert_eq!(lab.error(&client), libc::ETIMEDOUT);
}

#[test]
fn addresses_of_nobody() {
    let mut lab = Lab::exact(1);
    let client = lab.socket(0, libc::SOCK_STREAM);
    assert_eq!(lab.connect(&client, "8.8.8.8:53"), Err(libc::ENETUNREACH));
    assert_eq!(lab.connect(&client, "10.9.9.9:53"), Err(libc::EINPROGRESS));
    assert_eq!(lab.until(&client, libc::POLLOUT), 3 * SECOND);
    assert_eq!(lab.connect(&client, "10.9.9.9:53"), Err(libc::EHOSTUNREACH));
}

#[test]
fn a_close_with_bytes_unread_is_a_reset() {
    let mut lab = Lab::exact(1);
    let [client, server] = lab.pair();
    lab.write(&server, b"before").unwrap();
    lab.write(&client, b"unread").unwrap();
    lab.pass(MS);
    lab.close(server);
    lab.pass(MS);
    // What had come before is read first.
    assert_eq!(lab.read(&client, 9).unwrap(), b"before");
    assert_eq!(lab.read(&client, 9), Err(libc::ECONNRESET));
    assert_eq!(lab.read(&client, 9).unwrap(), b"");
    assert_eq!(lab.write(&client, b"more"), Err(libc::EPIPE));
    assert_eq!(lab.peer(&client), Err(libc::ENOTCONN));
}

#[test]
fn a_reset_overtakes_nothing() {
    for seed in 0..50 {
        let mut lab = Lab::new(seed);
        let [client, server] = lab.pair();
        lab.write(&client, b"unread").unwrap();
        lab.pass(2 * MS);
        lab.write(&server, &[1; 20_000]).unwrap();
        lab.close(server);
        lab.pass(4 * MS);
        assert_eq!(lab.read(&client, 99_999).map(|it| it.len()), Ok(20_000));
        assert_eq!(lab.read(&client, 9), Err(libc::ECONNRESET));
    }
}

#[test]
fn a_close_that_does_not_linger_is_a_reset() {
    let mut lab = Lab::exact(1);
    let [client, server] = lab.pair();
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let name = libc::SO_LINGER;
    lab.set(&server, libc::SOL_SOCKET, name, linger).unwrap();
    lab.close(server);
    lab.pass(MS);
    assert_ne!(lab.ready(&client) & libc::POLLHUP, 0);
    assert_eq!(lab.write(&client, b"more"), Err(libc::ECONNRESET));
    assert_eq!(lab.write(&client, b"more"), Err(libc::EPIPE));
    assert_eq!(lab.read(&client, 9).unwrap(), b"");
}

#[test]
fn a_reset_is_injected_at_both_ends() {
    let mut lab = Lab::exact(1);
    let [client, server] = lab.pair();
    lab.write(&client, b"not taken by anyone").unwrap();
    lab.net.reset_all(1, 0);
    for end in [&client, &server] {
        assert_ne!(lab.ready(end) & libc::POLLHUP, 0);
        assert_eq!(lab.error(end), libc::ECONNRESET);
        assert_eq!(lab.error(end), 0);
        assert_eq!(lab.read(end, 9).unwrap(), b"");
    }
    assert!(lab.net.connections.is_empty() && lab.net.next().is_none());
}

#[test]
fn a_crash_resets_the_peers_and_frees_the_ports() {
    let mut lab = Lab::exact(1);
    let [client, server] = lab.pair();
    let listener = lab.listener(1, "0.0.0.0:7000");
    let bystander = lab.socket(2, libc::SOCK_STREAM);
    let waiting = lab.socket(0, libc::SOCK_STREAM);
    lab.connect(&waiting, "10.0.0.2:7000").unwrap_err();
    lab.until(&waiting, libc::POLLOUT);
    let udp = lab.socket(1, libc::SOCK_DGRAM);
    let clone = server.try_clone().unwrap();
    let all = [server, listener, udp, clone];
    let mut numbers: Vec<_> = all.iter().map(AsRawFd::as_raw_fd).collect();
    numbers.sort_unstable();
    assert_eq!(lab.net.crash(1), numbers);
    drop(all);
    lab.pass(MS);
    assert_eq!(lab.read(&client, 9), Err(libc::ECONNRESET));
    assert_eq!(lab.read(&waiting, 9), Err(libc::ECONNRESET));
    let late = lab.socket(0, libc::SOCK_STREAM);
    lab.connect(&late, "10.0.0.2:7000").unwrap_err();
    lab.until(&late, libc::POLLOUT);
    assert_eq!(lab.error(&late), libc::ECONNREFUSED);
    lab.listener(1, "0.0.0.0:7000");
    assert!(lab.net.connections.is_empty() && lab.net.next().is_none());
    lab.bind(&bystander, "0.0.0.0:1").unwrap();
}

#[test]
fn a_crash_behind_a_cut_link_is_heard_of_later() {
    let mut lab = Lab::exact(1);
    let [client, server] = lab.pair();
    lab.cut(true);
    lab.net.crash(1);
    drop(server);
    lab.pass(SECOND);
    assert_eq!(lab.read(&client, 9), Err(libc::EAGAIN));
    lab.cut(false);
    lab.pass(SECOND);
    assert_eq!(lab.read(&client, 9), Err(libc::EAGAIN));
    lab.write(&client, b"hello?").unwrap();
    lab.pass(2 * MS);
    assert_eq!(lab.read(&client, 9), Err(libc::ECONNRESET));
}

#[test]
fn bandwidth_limits_how_fast_bytes_come() {
    let mut lab = Lab::new(1);
    let [client, server] = lab.pair();
    lab.links(Link {
        latency: Duration::from_millis(10),
        jitter: Duration::ZERO,
        bandwidth: Some(100_000),
        ..Link::default()
    });
    let begin = lab.now;
    let mut left = 200_000;
    lab.write(&client, &vec![0; left]).unwrap();
    while left > 0 {
        lab.until(&server, libc::POLLIN);
        left -= lab.read(&server, 1 << 16).unwrap().len();
    }
    let took = lab.now - begin;
    assert!((2000 * MS..2200 * MS).contains(&took), "{took}");
}
