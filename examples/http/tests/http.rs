//! The protocol, spoken in raw bytes.

use std::io::{Read, Write};
use std::time::Duration;

use crore_http::connection::Limits;
use crore_http::server::Server;

#[allow(dead_code, reason = "each test takes a part of it")]
mod common;

use common::{Answer, get, start};

fn hello() -> Answer {
    Answer {
        status: 200,
        fields: vec![
            "Server: crore".into(),
            "Content-Type: text/plain".into(),
            "Content-Length: 13".into(),
        ],
        body: "Hello, World!".into(),
    }
}

fn json() -> Answer {
    Answer {
        status: 200,
        fields: vec![
            "Server: crore".into(),
            "Content-Type: application/json".into(),
            "Content-Length: 27".into(),
        ],
        body: r#"{"message":"Hello, World!"}"#.into(),
    }
}

#[test]
fn plaintext_and_json_on_one_connection() {
    let server = start(Server::default());
    let mut client = server.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/plaintext"), hello());
        assert_eq!(client.get("/json?x=1"), json());
        assert_eq!(client.get("http://here/plaintext"), hello());
        assert_eq!(client.get("/other").status, 404);
        // There is no database.
        assert_eq!(client.get("/db").status, 404);
    }
}

#[test]
fn what_is_pipelined_is_answered_in_its_order() {
    let server = start(Server::default());
    let mut client = server.connect();
    let targets = (0..200).map(|i| ["/plaintext", "/json"][i % 3 % 2]);
    let requests: String = targets.clone().map(get).collect();
    client.send(requests);
    for (i, target) in targets.enumerate() {
        let expected = if target == "/json" { json() } else { hello() };
        assert_eq!(client.answer(), expected, "answer {i}");
    }
}

/// Requests of each kind, one after the other, and what is answered.
fn conversation() -> (Vec<u8>, impl Fn(&mut common::Client)) {
    let requests = [
        get("/plaintext"),
        "HEAD /json HTTP/1.1\r\nhost:here\r\n\r\n".into(),
        "GET /json HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nGET /".into(),
        "\r\nGET /plaintext HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n".into(),
        "GET /json HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".into(),
    ];
    let check = |client: &mut common::Client| {
        assert_eq!(client.answer(), hello());
        let head = client.head_answer();
        assert_eq!((head.fields, head.body.as_str()), (json().fields, ""));
        assert_eq!(client.answer(), json());
        let old = client.answer();
        assert!(old.has("Connection: keep-alive"), "{old:?}");
        let last = client.answer();
        assert!(last.has("Connection: close"), "{last:?}");
        client.ended();
    };
    (requests.concat().into_bytes(), check)
}

#[test]
fn requests_may_be_cut_anywhere() {
    let server = start(Server::default());
    let (requests, check) = conversation();
    for cut in 1..requests.len() {
        let mut client = server.connect();
        client.send(&requests[..cut]);
        // Another connection is served meanwhile, so that the first part was read alone.
        assert_eq!(server.connect().get("/json"), json());
        client.send(&requests[cut..]);
        check(&mut client);
    }
}

#[test]
fn requests_may_come_byte_by_byte() {
    let server = start(Server::default());
    let (requests, check) = conversation();
    let mut client = server.connect();
    for byte in requests {
        client.send([byte]);
    }
    check(&mut client);
}

/// Sends it on a connection of its own; the answer, which is the last.
fn refused(server: &common::Running, request: &str) -> Answer {
    let mut client = server.connect();
    client.send(request);
    let answer = client.answer();
    assert!(answer.has("Connection: close"), "{request:?}: {answer:?}");
    client.ended();
    answer
}

#[test]
fn what_is_beyond_a_limit_is_refused_with_the_reason() {
    let server = start(Server::default());
    let long = "x".repeat(8 * 1024);
    let with = |fields: &str| format!("GET /json HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let many = "A: b\r\n".repeat(64);
    for (request, status, why) in [
        (with(&format!("A: {long}\r\n")), 431, "at most 8192 bytes"),
        (with(&format!("A: {long}")), 431, "at most 8192 bytes"),
        (with(&many), 431, "at most 64 fields"),
        (get(&format!("/{long}")), 414, "at most 8192 bytes"),
        (format!("GET /{long}"), 414, "at most 8192 bytes"),
        (
            with("Content-Length: 65537\r\n"),
            413,
            "at most 65536 bytes",
        ),
        (
            with("Transfer-Encoding: chunked\r\n"),
            411,
            "Content-Length",
        ),
        (
            with("Content-Length: 1\r\nContent-Length: 1\r\n"),
            400,
            "one Content-Length",
        ),
        (with("Content-Length: +1\r\n"), 400, "in digits"),
        (
            with("Content-Length: 99999999999999999999\r\n"),
            400,
            "in digits",
        ),
        (with("Host: b\r\n"), 400, "one Host"),
        (with("Expect: money\r\n"), 417, "100-continue"),
        (with("no colon\r\n"), 400, "no request"),
        ("GET /json HTTP/1.1\r\n\r\n".into(), 400, "one Host"),
        ("GET json HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400, "slash"),
        (
            "GET /json HTTP/2.0\r\nHost: a\r\n\r\n".into(),
            505,
            "HTTP/1.1",
        ),
        ("\x16\x03\x01\x02\x00".into(), 400, "no request"),
        (
            "POST /json HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            405,
            "GET and HEAD",
        ),
    ] {
        let answer = refused(&server, &request);
        let short = &request[..request.len().min(60)];
        assert_eq!(answer.status, status, "{short:?}: {answer:?}");
        assert!(answer.body.contains(why), "{short:?}: {answer:?}");
        assert_eq!(answer.has("Allow: GET, HEAD"), status == 405, "{short:?}");
    }
    // The longest head there may be.
    let mut client = server.connect();
    let rest = 8 * 1024 - with("A: \r\n").len();
    client.send(with(&format!("A: {}\r\n", &long[..rest])));
    assert_eq!(client.answer(), json());
}

/// Answers that were due before it are sent.
#[test]
fn a_bad_request_harms_none_before_it() {
    let server = start(Server::default());
    let mut client = server.connect();
    client.send(get("/json") + &get("/plaintext") + "NONSENSE\r\n\r\n" + &get("/json"));
    assert_eq!(client.answer(), json());
    assert_eq!(client.answer(), hello());
    assert_eq!(client.answer().status, 400);
    client.ended();
}

#[test]
fn old_clients_get_one_answer() {
    let server = start(Server::default());
    let mut client = server.connect();
    client.send("GET /plaintext HTTP/1.0\r\n\r\nGET /plaintext HTTP/1.0\r\n\r\n");
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "Hello, World!")
    );
    assert!(answer.has("Connection: close"), "{answer:?}");
    client.ended();
}

#[test]
fn who_expects_to_be_told_is_told() {
    let server = start(Server::default());
    let mut client = server.connect();
    client
        .send("GET /json HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.send("abc");
    assert_eq!(client.answer(), json());
    // Nothing to wait for.
    client.send("GET /json HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer(), json());
}

#[test]
fn a_request_has_its_time() {
    let limits = Limits {
        request: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = start(Server {
        limits,
        ..Server::default()
    });
    let (half, body) = ("GET /json HTTP/1.1\r\nHo", "Content-Length: 9\r\n\r\nabc");
    for request in [half.to_owned(), format!("{half}st: a\r\n{body}")] {
        let answer = refused(&server, &request);
        assert_eq!(answer.status, 408, "{request}");
        assert!(answer.body.contains("200ms"), "{answer:?}");
    }
    // A byte now and then does not help.
    let mut client = server.connect();
    client.send(half);
    let mut slow = client.stream.try_clone().unwrap();
    let slowly = std::thread::spawn(move || {
        while slow.write_all(b"o").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    assert_eq!(client.answer().status, 408);
    client.ended();
    drop(client);
    slowly.join().unwrap();
}

#[test]
fn a_connection_that_asks_for_nothing_ends() {
    let limits = Limits {
        idle: Duration::from_millis(50),
        request: Duration::from_secs(1_000),
        ..Limits::default()
    };
    let server = start(Server {
        limits,
        ..Server::default()
    });
    assert_eq!(server.connect().rest(), "");
    // The time of a request is another one, and it is over with the request. A busy
    // machine may be too slow to begin one; then once more.
    let answered = (0..1_000).any(|_| {
        let mut client = server.connect();
        client.send("GET /json HTTP/1.1\r\nHost: a");
        client.send("\r\n\r\n");
        let rest = client.rest();
        let right = rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with(&json().body);
        assert!(rest.is_empty() || right, "{rest}");
        right
    });
    assert!(answered);
}

#[test]
fn who_does_not_read_is_left() {
    let limits = Limits {
        write: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = start(Server {
        limits,
        ..Server::default()
    });
    let mut client = server.connect();
    let many = get("/json").repeat(100);
    // The answers fill the buffers of both sides, then the requests do; then it is over.
    let error = loop {
        if let Err(error) = client.stream.write_all(many.as_bytes()) {
            break error;
        }
    };
    let gone = [
        std::io::ErrorKind::ConnectionReset,
        std::io::ErrorKind::BrokenPipe,
    ];
    assert!(gone.contains(&error.kind()), "{error}");
    assert_eq!(server.connect().get("/json"), json());
}

#[test]
fn beyond_the_most_connections_each_is_told() {
    let server = start(Server {
        connections: 2,
        ..Server::default()
    });
    let mut two = [server.connect(), server.connect()];
    for client in &mut two {
        assert_eq!(client.get("/json"), json());
    }
    for _ in 0..100 {
        let answer = refused(&server, &get("/json"));
        assert_eq!(answer.status, 503);
        assert!(answer.has("Retry-After: 1"), "{answer:?}");
    }
    let [mut one, other] = two;
    drop(other);
    // Its place is free once the server has seen that.
    while server.connect().get("/json").status == 503 {}
    assert_eq!(one.get("/plaintext"), hello());
}

/// On two workers, many at one time, each with another number of requests in flight.
#[test]
fn many_connections_get_their_own_answers() {
    let server = start(Server {
        workers: 2,
        ..Server::default()
    });
    let mut all: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for round in 0..5 {
        for (i, client) in all.iter_mut().enumerate() {
            client.send(get("/json").repeat((i + round) % 7));
            client.send(get("/plaintext"));
        }
        for (i, client) in all.iter_mut().enumerate() {
            for _ in 0..(i + round) % 7 {
                assert_eq!(client.answer(), json());
            }
            assert_eq!(client.answer(), hello());
        }
    }
    // Nothing more.
    for client in all {
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        (&client.stream).read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
}
