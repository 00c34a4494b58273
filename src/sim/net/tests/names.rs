//! Addresses, ports and options.

use super::*;

#[test]
fn nodes_have_names_and_addresses() {
    let mut lab = Lab::new(1);
    let two = "10.0.0.2".parse().unwrap();
    assert_eq!(lab.net.resolve("b"), Some(two));
    assert_eq!(
        (lab.net.name_of(two), lab.net.resolve("z")),
        (Some("b"), None)
    );
    let [client, server] = lab.pair();
    let described = lab.net.describe(client.as_raw_fd());
    assert_eq!(described.as_deref(), Some("a:32768 → b:80"));
    let described = lab.net.describe(server.as_raw_fd());
    assert_eq!(described.as_deref(), Some("b:80 → a:32768"));
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(lab.net.describe(file.as_raw_fd()), None);
}

#[test]
fn other_sockets_and_files_are_the_kernels() {
    let mut lab = Lab::new(1);
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    for number in [libc::SYS_getsockname, libc::SYS_read, libc::SYS_sendto] {
        let args = [one.as_raw_fd() as usize, 0, 0, 0, 0, 0];
        // SAFETY: no pointers.
        assert_eq!(unsafe { lab.net.call(0, 0, number, args) }, None);
    }
    let unix = [
        libc::AF_UNIX as usize,
        libc::SOCK_STREAM as usize,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: no pointers.
    let made = unsafe { lab.net.call(0, 0, libc::SYS_socket, unix) };
    assert_eq!(made, None);
    drop(other);
}

#[test]
fn a_port_is_taken_until_its_socket_is_closed() {
    let mut lab = Lab::new(1);
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
        let first = lab.socket(0, kind);
        lab.bind(&first, "0.0.0.0:80").unwrap();
        assert_eq!(lab.bind(&first, "0.0.0.0:81"), Err(libc::EINVAL));
        for addr in ["0.0.0.0:80", "127.0.0.1:80", "10.0.0.1:80"] {
            let other = lab.socket(0, kind);
            assert_eq!(lab.bind(&other, addr), Err(libc::EADDRINUSE));
        }
        let elsewhere = lab.socket(1, kind);
        lab.bind(&elsewhere, "0.0.0.0:80").unwrap();
        let other = lab.socket(0, kind);
        assert_eq!(lab.bind(&other, "10.0.0.2:80"), Err(libc::EADDRNOTAVAIL));
        let duplicate = first.try_clone().unwrap();
        drop(first);
        assert_eq!(lab.bind(&other, "0.0.0.0:80"), Err(libc::EADDRINUSE));
        drop(duplicate);
        lab.bind(&other, "0.0.0.0:80").unwrap();
    }
}

#[test]
fn listeners_may_share_a_port_if_both_want_to() {
    let mut lab = Lab::new(1);
    let reuse = |lab: &mut Lab, name| {
        let fd = lab.socket(1, libc::SOCK_STREAM);
        lab.set(&fd, libc::SOL_SOCKET, name, 1).unwrap();
        assert_eq!(lab.option(&fd, libc::SOL_SOCKET, name), Ok(1));
        fd
    };
    let two = [0, 1].map(|_| reuse(&mut lab, libc::SO_REUSEADDR));
    for fd in &two {
        lab.bind(fd, "0.0.0.0:80").unwrap();
    }
    lab.listen(&two[0], 9).unwrap();
    assert_eq!(lab.listen(&two[1], 9), Err(libc::EADDRINUSE));
    let late = reuse(&mut lab, libc::SO_REUSEADDR);
    assert_eq!(lab.bind(&late, "0.0.0.0:80"), Err(libc::EADDRINUSE));
    let two = [0, 1].map(|_| reuse(&mut lab, libc::SO_REUSEPORT));
    for fd in &two {
        lab.bind(fd, "0.0.0.0:81").unwrap();
        lab.listen(fd, 99).unwrap();
    }
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let client = lab.socket(0, libc::SOCK_STREAM);
            lab.connect(&client, "10.0.0.2:81").unwrap_err();
            lab.until(&client, libc::POLLOUT);
            client
        })
        .collect();
    let accepted = two.each_ref().map(|fd| {
        let mut count = 0;
        while lab.accept(fd).is_ok() {
            count += 1;
        }
        count
    });
    assert_eq!(accepted[0] + accepted[1], clients.len());
    assert!(accepted.iter().all(|count| *count > 5), "{accepted:?}");
}

#[test]
fn ports_are_given_in_turn() {
    let mut lab = Lab::new(1);
    let mut kept = Vec::new();
    for port in 32768..32778 {
        let fd = lab.socket(1, libc::SOCK_STREAM);
        if port % 2 == 0 {
            lab.listen(&fd, 1).unwrap();
        } else {
            lab.bind(&fd, "127.0.0.1:0").unwrap();
        }
        assert_eq!(lab.local(&fd).port(), port);
        kept.push(fd);
    }
    // All of them may have been used and closed.
    for _ in 0..30_000 {
        let fd = lab.socket(0, libc::SOCK_STREAM);
        lab.bind(&fd, "127.0.0.1:0").unwrap();
    }
}

#[test]
fn ipv6_reaches_ipv4() {
    let mut lab = Lab::new(1);
    let listener = lab.socket_of(1, libc::AF_INET6, libc::SOCK_STREAM);
    lab.bind(&listener, "[::]:80").unwrap();
    lab.listen(&listener, 9).unwrap();
    let four = lab.socket(0, libc::SOCK_STREAM);
    lab.connect(&four, "10.0.0.2:80").unwrap_err();
    let six = lab.socket_of(0, libc::AF_INET6, libc::SOCK_STREAM);
    lab.connect(&six, "[::ffff:10.0.0.2]:80").unwrap_err();
    let own = lab.socket_of(1, libc::AF_INET6, libc::SOCK_STREAM);
    lab.connect(&own, "[::1]:80").unwrap_err();
    let mut peers = Vec::new();
    for client in [&own, &four, &six] {
        lab.until(client, libc::POLLOUT);
        assert_eq!(lab.error(client), 0);
        peers.push(lab.accept(&listener).unwrap().1.ip().to_string());
    }
    peers.sort_unstable();
    assert_eq!(peers, ["10.0.0.1", "10.0.0.1", "::1"]);
    let only = lab.socket_of(1, libc::AF_INET6, libc::SOCK_STREAM);
    lab.set(&only, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)
        .unwrap();
    lab.bind(&only, "[::]:81").unwrap();
    let beside = lab.socket(1, libc::SOCK_STREAM);
    lab.bind(&beside, "0.0.0.0:81").unwrap();
    let four = lab.socket(1, libc::SOCK_STREAM);
    assert_eq!(lab.connect(&four, "[::1]:80"), Err(libc::EAFNOSUPPORT));
}

#[test]
fn options_are_what_they_would_be() {
    let mut lab = Lab::new(1);
    let [client, server] = lab.pair();
    let udp = lab.socket_of(0, libc::AF_INET6, libc::SOCK_DGRAM);
    for (fd, kind, domain, protocol) in [
        (&client, libc::SOCK_STREAM, libc::AF_INET, libc::IPPROTO_TCP),
        (&server, libc::SOCK_STREAM, libc::AF_INET, libc::IPPROTO_TCP),
        (&udp, libc::SOCK_DGRAM, libc::AF_INET6, libc::IPPROTO_UDP),
    ] {
        assert_eq!(lab.option(fd, libc::SOL_SOCKET, libc::SO_TYPE), Ok(kind));
        assert_eq!(
            lab.option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN),
            Ok(domain)
        );
        let number = lab.option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL);
        assert_eq!(number, Ok(protocol));
    }
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
    assert_eq!(lab.option(&client, level, name), Ok(0));
    lab.set(&client, level, name, 1).unwrap();
    assert_eq!(lab.option(&client, level, name), Ok(1));
    assert_eq!(lab.option(&server, level, name), Ok(0));
    assert_eq!(lab.option(&client, level, libc::TCP_KEEPIDLE), Ok(7200));
    let listener = lab.listener(0, "0.0.0.0:90");
    lab.set(&listener, level, name, 1).unwrap();
    let client = lab.socket(0, libc::SOCK_STREAM);
    lab.connect(&client, "127.0.0.1:90").unwrap_err();
    let (server, _) = lab.accept(&listener).unwrap();
    assert_eq!(lab.option(&server, level, name), Ok(1));
    let segments = lab.set(&udp, libc::IPPROTO_UDP, libc::UDP_SEGMENT, 1);
    assert_eq!(segments, Err(libc::ENOPROTOOPT));
}
