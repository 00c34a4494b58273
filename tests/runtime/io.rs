//! `crore::io`: coroutine-blocking descriptors without hooks, on plain threads
//! too. Runs with and without the feature `hook`.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use crore::io::{Io, readable, writable};
use socket2::{Domain, Socket, Type};

/// Runs the scenario in a coroutine and on a plain thread.
fn everywhere(scenario: fn(Go)) {
    crore::run(|| scenario(Go::Coroutines)).unwrap();
    scenario(Go::Threads);
}

#[derive(Clone, Copy)]
enum Go {
    Coroutines,
    Threads,
}

impl Go {
    /// Starts `f`; the returned closure joins it.
    fn go<T: Send + 'static>(
        self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Box<dyn FnOnce() -> T> {
        match self {
            Self::Coroutines => {
                let handle = crore::spawn(f);
                Box::new(|| handle.join().unwrap())
            }
            Self::Threads => {
                let handle = std::thread::spawn(f);
                Box::new(|| handle.join().unwrap())
            }
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ at >> 8) as u8).collect()
}

/// `F_GETFL` of a descriptor.
fn nonblocking(fd: &impl AsRawFd) -> bool {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let info = std::fs::read_to_string(path).unwrap();
    let flags = info
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .unwrap();
    i64::from_str_radix(flags.trim(), 8).unwrap() & 0o4000 != 0
}

#[test]
fn connections_echo() {
    everywhere(|on| {
        let listener = Io::<TcpListener>::bind("127.0.0.1:0").unwrap();
        let addr = listener.get_ref().local_addr().unwrap();
        let server = on.go(move || {
            let all: Vec<_> = (0..50)
                .map(|_| {
                    let (mut stream, _) = listener.accept().unwrap();
                    on.go(move || {
                        let mut buf = [0; 700];
                        loop {
                            let n = stream.read(&mut buf).unwrap();
                            if n == 0 {
                                break;
                            }
                            stream.write_all(&buf[..n]).unwrap();
                        }
                    })
                })
                .collect();
            all.into_iter().for_each(|join| join());
        });
        let clients: Vec<_> = (0..50)
            .map(|i| {
                on.go(move || {
                    let mut stream = Io::<TcpStream>::connect(addr).unwrap();
                    for size in [1, 699, 700, 701, 3000 + i] {
                        let message = pattern(size);
                        stream.write_all(&message).unwrap();
                        let mut back = vec![0; size];
                        stream.read_exact(&mut back).unwrap();
                        assert_eq!(back, message);
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|join| join());
        server();
    });
}

#[test]
fn both_directions_at_once_through_a_reference() {
    everywhere(|on| {
        let (a, b) = UnixStream::pair().unwrap();
        let (a, b) = (
            std::sync::Arc::new(Io::new(a).unwrap()),
            Io::new(b).unwrap(),
        );
        let writing = a.clone();
        let writer = on.go(move || {
            let data = pattern(1 << 20);
            let (front, back) = data.split_at(333_333);
            let mut done = (&*writing)
                .write_vectored(&[IoSlice::new(front), IoSlice::new(back)])
                .unwrap();
            while done < data.len() {
                done += (&*writing).write(&data[done..]).unwrap();
            }
            (&*writing).flush().unwrap();
            writing
                .get_ref()
                .shutdown(std::net::Shutdown::Write)
                .unwrap();
        });
        let echo = on.go(move || {
            let mut b = b;
            let mut got = Vec::new();
            b.read_to_end(&mut got).unwrap();
            b.write_all(&got).unwrap();
        });
        let mut back = Vec::new();
        (&*a).read_to_end(&mut back).unwrap();
        assert!(back == pattern(1 << 20));
        writer();
        echo();
    });
}

#[test]
fn datagrams() {
    everywhere(|on| {
        let server = Io::<UdpSocket>::bind("127.0.0.1:0").unwrap();
        let addr = server.get_ref().local_addr().unwrap();
        let echo = on.go(move || {
            let mut buf = [0; 100];
            for _ in 0..3 {
                let (n, from) = server.recv_from(&mut buf).unwrap();
                assert_eq!(server.send_to(&buf[..n], from).unwrap(), n);
            }
        });
        let client = Io::<UdpSocket>::bind("127.0.0.1:0").unwrap();
        client.get_ref().connect(addr).unwrap();
        for message in [&b"one"[..], b"", b"three"] {
            client.send(message).unwrap();
            let mut buf = [0; 100];
            let n = client.recv(&mut buf).unwrap();
            assert_eq!(&buf[..n], message);
        }
        echo();
    });
}

#[test]
fn refused_connections_are_errors() {
    everywhere(|_| {
        // Taken, so that nobody else can listen there.
        let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        taken.bind(&any.into()).unwrap();
        let gone = taken.local_addr().unwrap().as_socket().unwrap();
        let error = Io::<TcpStream>::connect(gone).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn the_flag_is_given_back() {
    everywhere(|_| {
        for before in [false, true] {
            let (a, _b) = UnixStream::pair().unwrap();
            a.set_nonblocking(before).unwrap();
            let io = Io::new(a).unwrap();
            assert!(nonblocking(io.get_ref()));
            assert_eq!(nonblocking(&io.into_inner().unwrap()), before);
        }
        let listener = Io::<TcpListener>::bind("127.0.0.1:0").unwrap();
        let stream = Io::<TcpStream>::connect(listener.get_ref().local_addr().unwrap()).unwrap();
        assert!(nonblocking(stream.get_ref()));
        assert!(!nonblocking(&stream.into_inner().unwrap()));
    });
}

#[test]
fn pipes_wait_for_both_sides() {
    everywhere(|on| {
        let (reader, writer) = io::pipe().unwrap();
        let (mut reader, mut writer) = (Io::new(reader).unwrap(), Io::new(writer).unwrap());
        let feeder = on.go(move || writer.write_all(&pattern(500_000)).unwrap());
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert!(got == pattern(500_000));
        feeder();
    });
}

#[test]
fn readiness_of_what_others_handle() {
    everywhere(|on| {
        let (a, b) = UnixStream::pair().unwrap();
        writable(&a).unwrap();
        for round in 0..10 {
            let peer = b.try_clone().unwrap();
            let writer = on.go(move || (&peer).write_all(&[round]).unwrap());
            readable(&a).unwrap();
            // Still there: asking does not take it.
            readable(&a).unwrap();
            let mut byte = [0];
            assert_eq!((&a).read(&mut byte).unwrap(), 1);
            assert_eq!(byte, [round]);
            writer();
        }
        // Full, then drained by the peer.
        a.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(n) = (&a).write(&[0; 4096]) {
            sent += n;
        }
        let reader = on.go(move || {
            let mut buf = vec![0; 1 << 16];
            let mut got = 0;
            while got < sent {
                got += (&b).read(&mut buf).unwrap();
            }
            b
        });
        writable(&a).unwrap();
        drop(reader());
        readable(&a).unwrap();
        assert_eq!((&a).read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn anything_can_be_retried() {
    everywhere(|on| {
        let (a, b) = UnixStream::pair().unwrap();
        let (a, b) = (Io::new(a).unwrap(), Io::new(b).unwrap());
        let writer = on.go(move || {
            b.write_with(|mut stream| stream.write(b"xyz")).unwrap();
            b
        });
        let mut tries = 0;
        let got = a.read_with(|mut stream| {
            tries += 1;
            let mut buf = [0; 3];
            stream.read_exact(&mut buf).map(|()| buf)
        });
        assert_eq!(&got.unwrap(), b"xyz");
        assert!(tries >= 1);
        let other = a.read_with(|_| Err::<(), _>(io::Error::other("mine")));
        assert_eq!(other.unwrap_err().to_string(), "mine");
        drop(writer());
    });
}

#[test]
fn a_file_is_always_ready() {
    everywhere(|_| {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        readable(&file).unwrap();
        let mut four = [0; 4];
        Io::new(file).unwrap().read_exact(&mut four).unwrap();
        assert_eq!(&four, b"\x7fELF");
    });
}

#[test]
fn dropping_ends_the_registration() {
    crore::run(|| {
        // The same number over and over: nobody gets another's wake-ups.
        for round in 0..100u32 {
            let (a, b) = UnixStream::pair().unwrap();
            let mut a = Io::new(a).unwrap();
            let reader = crore::spawn(move || {
                let mut four = [0; 4];
                a.read_exact(&mut four).map(|()| u32::from_ne_bytes(four))
            });
            crore::yield_now();
            (&b).write_all(&round.to_ne_bytes()).unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), round);
        }
    })
    .unwrap();
}
