//! UDP.

use super::*;
use std::collections::BTreeSet;
use std::time::Duration;

impl Lab {
    fn send_to(&mut self, fd: &OwnedFd, bytes: &[u8], to: &str) -> Answer {
        let to: SocketAddr = to.parse().unwrap();
        let (mut place, mut len) = ([0_u8; 64], 64 as libc::socklen_t);
        let at = place.as_mut_ptr().expose_provenance();
        // SAFETY: places of that length.
        unsafe { address::write(to, libc::AF_INET, at, (&raw mut len).expose_provenance()) };
        let bytes_at = bytes.as_ptr().expose_provenance();
        let args = [
            fd.as_raw_fd() as usize,
            bytes_at,
            bytes.len(),
            0,
            at,
            len as usize,
        ];
        self.call(0, libc::SYS_sendto, args)
    }

    fn receive_from(&mut self, fd: &OwnedFd) -> Result<(Vec<u8>, SocketAddr), c_int> {
        let (mut place, mut len) = ([0_u8; 64], 64 as libc::socklen_t);
        let at = place.as_mut_ptr().expose_provenance();
        let length = (&raw mut len).expose_provenance();
        let mut bytes = vec![0; 2000];
        let args = [
            fd.as_raw_fd() as usize,
            bytes.as_mut_ptr().expose_provenance(),
            bytes.len(),
            0,
            at,
            length,
        ];
        let count = self.call(0, libc::SYS_recvfrom, args)?;
        bytes.truncate(count);
        // SAFETY: an address of that length.
        Ok((bytes, unsafe { address::read(at, len as usize) }.unwrap()))
    }

    fn bound(&mut self, node: usize, addr: &str) -> OwnedFd {
        let fd = self.socket(node, libc::SOCK_DGRAM);
        self.bind(&fd, addr).unwrap();
        fd
    }
}

#[test]
fn a_datagram_arrives_with_its_senders_address() {
    let mut lab = Lab::exact(1);
    let server = lab.bound(1, "0.0.0.0:53");
    let client = lab.socket(0, libc::SOCK_DGRAM);
    assert_eq!(lab.send_to(&client, b"who?", "10.0.0.2:53"), Ok(4));
    assert_eq!(lab.receive_from(&server), Err(libc::EAGAIN));
    assert_eq!(lab.until(&server, libc::POLLIN), MS);
    let mut count: c_int = 0;
    let place = (&raw mut count).expose_provenance();
    let args = [
        server.as_raw_fd() as usize,
        libc::FIONREAD as usize,
        place,
        0,
        0,
        0,
    ];
    lab.call(1, libc::SYS_ioctl, args).unwrap();
    assert_eq!(count, 4);
    let (bytes, from) = lab.receive_from(&server).unwrap();
    assert_eq!(
        (&*bytes, from.ip()),
        (&b"who?"[..], "10.0.0.1".parse().unwrap())
    );
    assert_eq!(from.port(), lab.local(&client).port());
    assert_eq!(lab.send_to(&server, b"", &from.to_string()), Ok(0));
    lab.until(&client, libc::POLLIN);
    let empty = (Vec::new(), "10.0.0.2:53".parse().unwrap());
    assert_eq!(lab.receive_from(&client), Ok(empty));
}

#[test]
fn a_connected_socket_hears_its_peer_alone() {
    let mut lab = Lab::exact(1);
    let server = lab.bound(1, "10.0.0.2:53");
    let client = lab.bound(0, "10.0.0.1:1000");
    let stranger = lab.socket(2, libc::SOCK_DGRAM);
    assert_eq!(lab.write(&client, b"x"), Err(libc::EDESTADDRREQ));
    lab.connect(&client, "10.0.0.2:53").unwrap();
    assert_eq!(lab.peer(&client), Ok("10.0.0.2:53".parse().unwrap()));
    lab.send_to(&stranger, b"spam", "10.0.0.1:1000").unwrap();
    lab.write(&client, b"who?").unwrap();
    lab.pass(MS);
    lab.receive_from(&server).unwrap();
    lab.send_to(&server, b"you", "10.0.0.1:1000").unwrap();
    lab.pass(MS);
    assert_eq!(lab.read(&client, 9).unwrap(), b"you");
    assert_eq!(lab.read(&client, 9), Err(libc::EAGAIN));
}

#[test]
fn a_connected_socket_hears_that_nobody_is_there() {
    let mut lab = Lab::exact(1);
    let client = lab.socket(0, libc::SOCK_DGRAM);
    lab.connect(&client, "10.0.0.2:53").unwrap();
    lab.write(&client, b"who?").unwrap();
    assert_eq!(lab.until(&client, libc::POLLIN), 2 * MS);
    assert_eq!(lab.read(&client, 9), Err(libc::ECONNREFUSED));
    assert_eq!(lab.read(&client, 9), Err(libc::EAGAIN));
    // By sending, too, or by asking; once.
    for asks in [false, true] {
        lab.write(&client, b"who?").unwrap();
        lab.pass(2 * MS);
        if asks {
            assert_eq!(lab.error(&client), libc::ECONNREFUSED);
        } else {
            assert_eq!(lab.write(&client, b"who?"), Err(libc::ECONNREFUSED));
        }
        assert_eq!(lab.read(&client, 9), Err(libc::EAGAIN));
    }
}

#[test]
fn long_datagrams_are_cut_and_too_long_ones_refused() {
    let mut lab = Lab::exact(1);
    let server = lab.bound(0, "127.0.0.1:53");
    let client = lab.socket(0, libc::SOCK_DGRAM);
    lab.connect(&client, "127.0.0.1:53").unwrap();
    assert_eq!(lab.write(&client, &[1; 65_508]), Err(libc::EMSGSIZE));
    lab.write(&client, &[1; 1000]).unwrap();
    lab.write(&client, b"next").unwrap();
    let mut bytes = [0; 10];
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: 10,
    };
    // SAFETY: zeros are a message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut vector, 1);
    let place = (&raw mut message).expose_provenance();
    let args = [server.as_raw_fd() as usize, place, 0, 0, 0, 0];
    assert_eq!(lab.call(0, libc::SYS_recvmsg, args), Ok(10));
    assert_eq!(message.msg_flags & libc::MSG_TRUNC, libc::MSG_TRUNC);
    assert_eq!(lab.read(&server, 9).unwrap(), b"next");
}

#[test]
fn several_messages_in_one_call() {
    let mut lab = Lab::exact(1);
    let server = lab.bound(0, "127.0.0.1:53");
    let client = lab.socket(0, libc::SOCK_DGRAM);
    lab.connect(&client, "127.0.0.1:53").unwrap();
    let mut bytes = [[7_u8; 4]; 5];
    let mut vectors: Vec<_> = bytes
        .iter_mut()
        .map(|bytes| libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: 4,
        })
        .collect();
    // SAFETY: zeros are messages.
    let mut messages: [libc::mmsghdr; 5] = unsafe { std::mem::zeroed() };
    for (message, vector) in messages.iter_mut().zip(&mut vectors) {
        (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (vector, 1);
    }
    let place = messages.as_mut_ptr().expose_provenance();
    let args = |fd: &OwnedFd, count| [fd.as_raw_fd() as usize, place, count, 0, 0, 0];
    let send = lab.call(0, libc::SYS_sendmmsg, args(&client, 3));
    assert_eq!(send, Ok(3));
    let receive = lab.call(0, libc::SYS_recvmmsg, args(&server, 5));
    assert_eq!(receive, Ok(3));
    assert!(messages[..3].iter().all(|message| message.msg_len == 4));
    let receive = lab.call(0, libc::SYS_recvmmsg, args(&server, 5));
    assert_eq!(receive, Err(libc::EAGAIN));
}

#[test]
fn datagrams_get_lost_doubled_and_overtaken() {
    let mut lab = Lab::new(5);
    lab.links(Link {
        latency: Duration::from_millis(10),
        jitter: Duration::ZERO,
        loss: 0.2,
        duplicate: 0.1,
        reorder: 0.1,
        ..Link::default()
    });
    let server = lab.bound(1, "0.0.0.0:53");
    let client = lab.socket(0, libc::SOCK_DGRAM);
    let mut got = Vec::new();
    for number in 0..1000_u32 {
        lab.send_to(&client, &number.to_ne_bytes(), "10.0.0.2:53")
            .unwrap();
        lab.pass(MS);
        while let Ok((bytes, _)) = lab.receive_from(&server) {
            got.push(u32::from_ne_bytes(bytes.try_into().unwrap()));
        }
    }
    let different: BTreeSet<_> = got.iter().collect();
    let overtaken = got.windows(2).filter(|two| two[0] > two[1]).count();
    assert!((700..900).contains(&different.len()), "{}", different.len());
    assert!(got.len() > different.len() + 30, "{}", got.len());
    assert!(overtaken > 30, "{overtaken}");
}

#[test]
fn a_full_buffer_loses_datagrams() {
    let mut lab = Lab::new(1);
    let server = lab.bound(0, "127.0.0.1:53");
    let client = lab.socket(0, libc::SOCK_DGRAM);
    for _ in 0..1000 {
        let sent = lab.send_to(&client, &[0; 1000], "127.0.0.1:53");
        assert_eq!(sent, Ok(1000));
    }
    let mut got = 0;
    while lab.receive_from(&server).is_ok() {
        got += 1;
    }
    assert!((50..500).contains(&got), "{got}");
}
