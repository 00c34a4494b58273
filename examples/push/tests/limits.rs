//! Bad clients: each gets its limit and a reason, and the node's memory stays bounded.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use serde_json::json;
use support::{Client, Node, connect};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

/// What the node has to say to these bytes, before it closes.
fn said(node: &Node, bytes: &[u8]) -> String {
    let mut socket = connect(node.clients);
    // It may have closed already: what it said counts.
    let _ = socket.write_all(bytes);
    let mut text = Vec::new();
    let _ = socket.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_handshake_that_never_ends_is_cut() {
    let node = Node::start(&["--handshake_ms", "100"]);
    // Slowloris: a byte now and then, for as long as it is let.
    let mut slow = connect(node.clients);
    slow.write_all(b"GET /ws HTTP/1.1\r\nA: ").unwrap();
    let mut drops = slow.try_clone().unwrap();
    let dropping = std::thread::spawn(move || {
        while drops.write_all(b"a").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    // Half-open: it says nothing.
    let mut silent = connect(node.clients);
    let _ = silent.read(&mut [0; 1]);
    let _ = slow.read(&mut [0; 1]);
    dropping.join().unwrap();
    node.await_metric("push_bad_handshakes ", |n| n == 2);
    assert_eq!(node.metric("push_connections "), 0);
}

#[test]
fn bad_requests_are_answered() {
    let node = Node::start(&[]);
    let refused = said(&node, b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    let refused = said(&node, b"POST /ws HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
    assert_eq!(said(&node, b"\x16\x03\x01\0\x01\r\n\r\n"), "");
    let long = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 100_000]].concat();
    assert_eq!(said(&node, &long), "");
    node.await_metric("push_bad_handshakes ", |n| n == 4);
}

#[test]
fn a_full_node_says_so() {
    let node = Node::start(&["--connections", "2"]);
    let held = [1, 2].map(|_| Client::connect(node.clients, "held"));
    let refused = said(&node, b"");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert_eq!(node.metric("push_refused_full "), 1);
    drop(held);
    node.await_metric("push_connections ", |n| n == 0);
    Client::connect(node.clients, "later");
}

#[test]
fn floods_are_closed() {
    let node = Node::start(&["--rate", "1", "--burst", "20"]);
    let mut flood = Client::connect(node.clients, "flood");
    let ping = Message::text(r#"{"type":"ping","id":1}"#);
    while flood.socket.send(ping.clone()).is_ok() {
        if node.metric("push_closed_limit ") > 0 {
            break;
        }
    }
    assert_eq!(flood.closed(), "1008: more than 1 messages a second");
    // Frames that ask nothing count, too.
    let mut flood = Client::connect(node.clients, "flood");
    while node.metric("push_closed_limit ") < 2 {
        let _ = flood.socket.send(Message::Ping("x".into()));
    }
    assert_eq!(flood.closed(), "1008: more than 1 messages a second");
}

#[test]
fn long_messages_are_refused_before_they_are_read() {
    let node = Node::start(&["--frame", "1000"]);
    let mut client = Client::connect(node.clients, "long");
    client.publish("room", "x".repeat(900));
    // Says that it is a terabyte, and sends the head alone.
    let socket = client.socket.get_mut();
    let head = [0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    socket.write_all(&head).unwrap();
    assert!(client.closed().starts_with("1009: "));
    // Many short frames of one message.
    let mut client = Client::connect(node.clients, "long");
    for i in 0..20 {
        let data = if i == 0 { Data::Text } else { Data::Continue };
        let mut header = FrameHeader {
            is_final: false,
            opcode: OpCode::Data(data),
            ..FrameHeader::default()
        };
        header.mask = Some([1, 2, 3, 4]);
        let frame = Frame::from_payload(header, vec![b'x'; 100].into());
        if client.socket.send(Message::Frame(frame)).is_err() {
            break;
        }
    }
    assert!(client.closed().starts_with("1009: "));
    assert_eq!(node.metric("push_closed_limit "), 2);
}

#[test]
fn malformed_frames_and_messages_have_their_reasons() {
    let node = Node::start(&[]);
    let closed = |bytes: &[u8]| {
        let mut client = Client::connect(node.clients, "bad");
        client.socket.get_mut().write_all(bytes).unwrap();
        client.closed()
    };
    let long_ping = [&[0x89, 0xfe, 0x01, 0x00, 0, 0, 0, 0][..], &[0; 256]].concat();
    // Not masked; a code that is none; bits that are reserved.
    for bytes in [
        &[0x81, 0x01, b'x'][..],
        &[0x83, 0x80, 0, 0, 0, 0],
        &[0xf1, 0x80, 0, 0, 0, 0],
        &long_ping,
    ] {
        let why = closed(bytes);
        assert!(why.starts_with("1002: "), "{bytes:?}: {why}");
    }
    assert!(closed(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).starts_with("1007: "));
    assert!(closed(&[0x82, 0x81, 0, 0, 0, 0, 0xff]).starts_with("1003: "));
    assert_eq!(node.metric("push_closed_malformed "), 6);

    let mut client = Client::connect(node.clients, "odd");
    for text in [
        "",
        "7",
        "{",
        r#"{"type":"steal","id":1}"#,
        &"[".repeat(10_000),
    ] {
        client.socket.send(Message::text(text)).unwrap();
        let refused = client.message();
        assert_eq!(refused["code"], "malformed", "{text}: {refused}");
    }
    let refused = client.ask(json!({"type": "subscribe", "channel": ""}));
    assert_eq!(refused["code"], "limit", "{refused}");
    let long = "x".repeat(1000);
    let refused = client.ask(json!({"type": "publish", "channel": long, "data": 1}));
    assert_eq!(refused["code"], "limit", "{refused}");
    client.subscribe("room");
    let refused = client.ask(json!({"type": "subscribe", "channel": "room"}));
    assert_eq!(refused["code"], "malformed", "{refused}");
}

#[test]
fn half_a_frame_holds_up_nobody() {
    let node = Node::start(&[]);
    let mut half = Client::connect(node.clients, "half");
    half.subscribe("room");
    half.socket
        .get_mut()
        .write_all(&[0x81, 0xfe, 0x01])
        .unwrap();
    // News come all the same.
    let mut writer = Client::connect(node.clients, "writer");
    writer.publish("room", 1);
    assert_eq!(half.message()["data"], 1);
}

#[test]
fn half_a_frame_is_silence() {
    let node = Node::start(&["--heartbeat_ms", "300"]);
    let mut half = Client::connect(node.clients, "half");
    // If it is late, it was silent all the same.
    let _ = half.socket.get_mut().write_all(&[0x81, 0xfe, 0x01]);
    let mut left = Vec::new();
    let _ = half.socket.get_mut().read_to_end(&mut left);
    assert_eq!(node.metric("push_closed_silent "), 1);
}

#[test]
fn who_answers_pings_may_be_silent() {
    let node = Node::start(&["--heartbeat_ms", "10000"]);
    let mut quiet = Client::connect(node.clients, "quiet");
    quiet.subscribe("room");
    // The client's library answers pings while it reads.
    let reading = std::thread::spawn(move || quiet.closed());
    let mut pings = 0;
    while pings < 1 {
        // `requests` counts the pongs.
        pings = node.metric("push_requests ") - 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(node.metric("push_closed_silent "), 0);
    drop(node);
    reading.join().unwrap();
}

#[test]
fn a_million_channels_are_refused_and_cost_nothing() {
    let lines = "rate = 1000000000\nburst = 1000000000\nchannels = 1000\nclient_channels = 10\n";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.as_bytes()).unwrap();
    let node = Node::start(&["--config", file.path().to_str().unwrap()]);
    let mut client = Client::connect(node.clients, "many");
    for i in 0..10 {
        client.subscribe(&format!("mine-{i}"));
    }
    let refused = client.ask(json!({"type": "subscribe", "channel": "eleventh"}));
    assert_eq!(refused["reason"], "a client may subscribe to 10 channels");
    for i in 10..1000 {
        client.publish(&format!("c{i}"), i);
    }
    let before = node.resident();
    // A part of them, from ten clients: the rest would say the same.
    let mut refused = 0;
    let mut clients: Vec<_> = (0..10)
        .map(|_| Client::connect(node.clients, "many"))
        .collect();
    for i in 0..2_000 {
        for client in &mut clients {
            let channel = format!("more-{i}-{}", refused);
            client.send(json!({"type": "publish", "channel": channel, "data": 1}));
        }
        for client in &mut clients {
            let answer = client.message();
            assert_eq!(answer["reason"], "the node holds 1000 channels, its most");
            refused += 1;
        }
    }
    assert_eq!(refused, 20_000);
    assert_eq!(node.metric("push_channels "), 1000);
    let more = node.resident().saturating_sub(before);
    assert!(
        more < 8 << 20,
        "{more} bytes for channels that were refused"
    );
}

#[test]
fn the_history_of_all_channels_is_bounded() {
    let node = Node::start(&[
        "--memory", "100000", "--rate", "100000", "--burst", "100000",
    ]);
    let mut client = Client::connect(node.clients, "much");
    let text = "x".repeat(1000);
    let mut kept = 0;
    let refused = loop {
        let channel = format!("c{kept}");
        let answer = client.ask(json!({"type": "publish", "channel": channel, "data": text}));
        if answer["type"] == "error" {
            break answer;
        }
        kept += 1;
    };
    assert_eq!(
        refused["reason"],
        "the node's history is full: 100000 bytes"
    );
    assert!((50..100).contains(&kept), "{kept}");
    assert!(node.metric("push_history_bytes ") <= 100_000);
}

/// A subscriber that reads nothing, until its node has no room for more of what it sends.
fn stuck(node: &Node, messages: usize) -> (Client, Client) {
    let mut stuck = Client::connect(node.clients, "stuck");
    stuck.subscribe("room");
    let mut writer = Client::connect(node.clients, "writer");
    let text = "x".repeat(50_000);
    for _ in 0..messages {
        writer.publish("room", &*text);
    }
    (stuck, writer)
}

const SLOW: [&str; 8] = [
    "--history_messages",
    "8",
    "--rate",
    "100000",
    "--burst",
    "100000",
    "--write_ms",
    "600000",
];

#[test]
fn a_slow_subscriber_lags_and_is_told() {
    let node = Node::start(&SLOW);
    let (mut slow, _writer) = stuck(&node, 1000);
    let (mut expected, mut missed) = (1, 0);
    while expected <= 1000 {
        let message = slow.message();
        match message["type"].as_str().unwrap() {
            "message" => {
                assert_eq!(message["offset"], expected);
                expected += 1;
            }
            "lag" => {
                let more = message["missed"].as_u64().unwrap();
                missed += more;
                expected += more;
                assert_eq!(message["offset"], expected - 1);
            }
            other => panic!("{other}"),
        }
    }
    assert!(missed > 0, "50 MB fitted into sockets");
    assert_eq!(node.metric("push_missed "), missed);
}

#[test]
fn a_slow_subscriber_is_closed_by_policy() {
    let settings = [&SLOW[..], &["--slow", "close"]].concat();
    let node = Node::start(&settings);
    let (mut slow, mut writer) = stuck(&node, 1000);
    let why = slow.closed();
    assert!(why.starts_with("1013: too slow: "), "{why}");
    assert_eq!(node.metric("push_closed_slow "), 1);
    assert_eq!(writer.ask(json!({"type": "ping"}))["type"], "pong");
}

#[test]
fn who_takes_nothing_is_cut_in_time() {
    let settings = [&SLOW[..6], &["--write_ms", "100"]].concat();
    let node = Node::start(&settings);
    let (mut slow, _writer) = stuck(&node, 1000);
    node.await_metric("push_closed_slow ", |n| n == 1);
    node.await_metric("push_sockets ", |n| n == 1);
    // What was on its way comes, and then the end.
    slow.closed();
}

#[test]
fn a_client_that_only_sends_and_never_reads_is_bounded() {
    let node = Node::start(&[
        "--rate",
        "1000000",
        "--burst",
        "1000000",
        "--write_ms",
        "100",
    ]);
    let client = Client::connect(node.clients, "deaf");
    let mut socket = client.socket.get_ref().try_clone().unwrap();
    // A masked ping of 100 bytes, again and again; nobody reads the pongs.
    let frame = [&[0x89, 0x80 | 100, 0, 0, 0, 0][..], &[b'x'; 100]].concat();
    let many = frame.repeat(1000);
    while socket.write_all(&many).is_ok() {}
    assert!(node.resident() < 100 << 20, "{}", node.resident());
    node.await_metric("push_sockets ", |n| n == 0);
    let _ = socket.shutdown(Shutdown::Both);
    assert_eq!(u16::from(CloseCode::Again), 1013);
}
