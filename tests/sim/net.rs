//! The network of simulations, by plain `std::net`.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use crore::sim::{self, Escapes, Faults, Link, Sim};

const SECOND: Duration = Duration::from_secs(1);

/// Answers each line with itself.
fn echo() {
    let listener = TcpListener::bind("0.0.0.0:7").unwrap();
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        thread::spawn(move || {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(Ok(line)) = lines.next() {
                if writeln!(&stream, "{line}").is_err() {
                    return;
                }
            }
        });
    }
}

fn ask(stream: &TcpStream, word: &str) -> io::Result<String> {
    writeln!(&mut &*stream, "{word}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.pop() {
        Some('\n') => Ok(answer),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

#[test]
fn lines_are_echoed_and_take_two_ways() {
    let link = Link {
        latency: SECOND,
        jitter: Duration::ZERO,
        ..Link::default()
    };
    Sim::new(1)
        .link(link)
        .node("server", echo)
        .client("client", || {
            let began = Instant::now();
            let stream = TcpStream::connect("server:7").unwrap();
            let connected = began.elapsed();
            assert!(
                connected >= 2 * SECOND && connected < 3 * SECOND,
                "{connected:?}"
            );
            assert_eq!(ask(&stream, "hello").unwrap(), "hello");
            let answered = began.elapsed() - connected;
            assert!(
                answered >= 2 * SECOND && answered < 3 * SECOND,
                "{answered:?}"
            );
            assert_eq!(stream.peer_addr().unwrap().port(), 7);
            assert_ne!(
                stream.local_addr().unwrap().ip(),
                stream.peer_addr().unwrap().ip()
            );
        })
        .run();
}

#[test]
fn names_are_known() {
    Sim::new(1)
        .node("server", echo)
        .client("client", || {
            let address = "server:7".to_socket_addrs().unwrap().next().unwrap();
            assert!(address.ip().is_ipv4() && !address.ip().is_loopback());
            let own = UdpSocket::bind("client:0").unwrap().local_addr().unwrap();
            assert_ne!(own.ip(), address.ip());
            let local = "localhost:7".to_socket_addrs().unwrap().next().unwrap();
            assert_eq!(local.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
            // Nobody outside is asked.
            assert!("nobody:7".to_socket_addrs().is_err());
        })
        .escapes(Escapes::Denied)
        .run();
}

#[test]
fn nobody_there_and_nothing_heard() {
    Sim::new(1)
        .node("server", || thread::sleep(3600 * SECOND))
        .client("client", || {
            let refused = TcpStream::connect("server:7").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            sim::cut("client", "server");
            let began = Instant::now();
            let unheard = TcpStream::connect("server:7").unwrap_err();
            assert_eq!(unheard.kind(), ErrorKind::TimedOut);
            assert!(began.elapsed() > 60 * SECOND, "{:?}", began.elapsed());
        })
        .run();
}

/// It has taken the connection, and neither its answer nor its reset arrives.
#[test]
fn a_connect_whose_server_crashes_unheard_is_tried_again() {
    let link = Link {
        latency: SECOND,
        jitter: Duration::ZERO,
        ..Link::default()
    };
    Sim::new(1)
        .link(link)
        .node("server", echo)
        .client("client", || {
            thread::sleep(SECOND);
            sim::cut("server", "client");
            let connecting = thread::spawn(|| TcpStream::connect("server:7"));
            thread::sleep(SECOND * 3 / 2);
            sim::crash("server");
            sim::heal("server", "client");
            sim::restart("server");
            let began = Instant::now();
            let stream = connecting.join().unwrap().unwrap();
            assert!(began.elapsed() < 30 * SECOND, "{:?}", began.elapsed());
            assert_eq!(ask(&stream, "hello").unwrap(), "hello");
        })
        .run();
}

#[test]
fn read_timeouts_are_of_its_time() {
    Sim::new(1)
        .node("server", || {
            let listener = TcpListener::bind("0.0.0.0:7").unwrap();
            let _silent: Vec<_> = listener.incoming().collect();
        })
        .client("client", || {
            let mut stream = TcpStream::connect("server:7").unwrap();
            stream.set_read_timeout(Some(30 * SECOND)).unwrap();
            let began = Instant::now();
            let error = stream.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(began.elapsed() >= 30 * SECOND && began.elapsed() < 31 * SECOND);
        })
        .run();
}

#[test]
fn a_crash_resets_connections_and_a_restart_listens_again() {
    Sim::new(1)
        .node("server", echo)
        .client("client", || {
            let stream = TcpStream::connect("server:7").unwrap();
            assert_eq!(ask(&stream, "one").unwrap(), "one");
            sim::crash("server");
            thread::sleep(SECOND);
            assert_eq!(
                ask(&stream, "two").unwrap_err().kind(),
                ErrorKind::ConnectionReset
            );
            let refused = TcpStream::connect("server:7").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            sim::restart("server");
            thread::sleep(SECOND);
            let stream = TcpStream::connect("server:7").unwrap();
            assert_eq!(ask(&stream, "three").unwrap(), "three");
        })
        .run();
}

#[test]
fn ends_of_streams_and_megabytes() {
    Sim::new(5)
        .node("server", || {
            let listener = TcpListener::bind("0.0.0.0:9").unwrap();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).unwrap();
                    let sum: u64 = all.iter().map(|&byte| u64::from(byte)).sum();
                    stream.write_all(&sum.to_le_bytes()).unwrap();
                });
            }
        })
        .client("client", || {
            let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7) as u8).collect();
            let mut stream = TcpStream::connect("server:9").unwrap();
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut sum = [0; 8];
            stream.read_exact(&mut sum).unwrap();
            let expected: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
            assert_eq!(u64::from_le_bytes(sum), expected);
            assert_eq!(stream.read(&mut sum).unwrap(), 0);
        })
        .run();
}

#[test]
fn datagrams_get_lost_and_come_twice() {
    let link = Link {
        loss: 0.2,
        duplicate: 0.2,
        ..Link::default()
    };
    Sim::new(1)
        .link(link)
        .node("server", || {
            let socket = UdpSocket::bind("0.0.0.0:7").unwrap();
            let mut bytes = [0; 100];
            loop {
                let (len, from) = socket.recv_from(&mut bytes).unwrap();
                socket.send_to(&bytes[..len], from).unwrap();
            }
        })
        .client("client", || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect("server:7").unwrap();
            socket.set_read_timeout(Some(SECOND)).unwrap();
            let mut seen = vec![0; 1_000];
            for number in 0..seen.len() as u32 {
                socket.send(&number.to_le_bytes()).unwrap();
            }
            let mut bytes = [0; 4];
            while let Ok(4) = socket.recv(&mut bytes) {
                seen[u32::from_le_bytes(bytes) as usize] += 1;
            }
            let lost = seen.iter().filter(|&&times| times == 0).count();
            let twice = seen.iter().filter(|&&times| times > 1).count();
            assert!((250..450).contains(&lost) && twice > 100, "{lost} {twice}");
        })
        .run();
}

/// Many machines, much that breaks: each seed has its history, in this process and in
/// others.
#[test]
fn busy_networks_repeat() {
    sim::check_repeats(0..20, |sim| drop(busy(sim).run()));
}

fn busy(sim: Sim) -> Sim {
    let faults = Faults::within(20 * SECOND)
        .crashes(3)
        .partitions(2)
        .cuts(2)
        .resets(2)
        .clocks(2);
    let mut sim = sim.faults(faults);
    for node in ["a", "b", "c"] {
        sim = sim.node(node, echo);
    }
    for client in ["x", "y"] {
        sim = sim.client(client, || {
            let mut done = 0;
            while done < 50 {
                let node = ["a", "b", "c"][sim::random(3) as usize];
                let Ok(stream) = TcpStream::connect_timeout(
                    &(node, 7).to_socket_addrs().unwrap().next().unwrap(),
                    SECOND,
                ) else {
                    continue;
                };
                stream.set_read_timeout(Some(SECOND)).unwrap();
                while done < 50 && ask(&stream, "word").is_ok_and(|word| word == "word") {
                    done += 1;
                    thread::sleep(Duration::from_millis(sim::random(1_000)));
                }
            }
        });
    }
    sim
}

#[test]
fn a_trace_can_be_read() {
    let report = Sim::new(1)
        .trace(true)
        .node("server", echo)
        .client("client", || {
            let stream = TcpStream::connect("server:7").unwrap();
            ask(&stream, "hello").unwrap();
        })
        .run();
    let trace = report.trace().join("\n");
    assert!(trace.contains("connect"), "{trace}");
    println!("{trace}");
}

/// By libc's own names, as C programs call them.
#[test]
fn sockets_of_c_have_names_and_options() {
    Sim::new(1)
        .node("server", echo)
        .client("client", || {
            let listener = TcpListener::bind("0.0.0.0:80").unwrap();
            let stream = TcpStream::connect("server:7").unwrap();
            let mut value = 0_i32;
            let mut len = size_of::<i32>() as libc::socklen_t;
            // SAFETY: places of ours, descriptors that are open.
            unsafe {
                let fd = stream.as_raw_fd();
                let place = (&raw mut value).cast();
                let asked =
                    libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, place, &raw mut len);
                assert_eq!((asked, value), (0, libc::AF_INET));
                let mut name: libc::sockaddr_in = std::mem::zeroed();
                let mut len = size_of_val(&name) as libc::socklen_t;
                let at = (&raw mut name).cast();
                assert_eq!(libc::getsockname(listener.as_raw_fd(), at, &raw mut len), 0);
                assert_eq!((name.sin_family, name.sin_port), (2, 80_u16.to_be()));
                assert_eq!(libc::getpeername(fd, at, &raw mut len), 0);
                assert_eq!(name.sin_port, 7_u16.to_be());
                assert_eq!(
                    libc::getpeername(listener.as_raw_fd(), at, &raw mut len),
                    -1
                );
                let again = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
                name.sin_port = 80_u16.to_be();
                name.sin_addr.s_addr = 0;
                assert_eq!(libc::bind(again, (&raw const name).cast(), len), -1);
                assert_eq!(io::Error::last_os_error().kind(), ErrorKind::AddrInUse);
                name.sin_port = 81_u16.to_be();
                assert_eq!(libc::bind(again, (&raw const name).cast(), len), 0);
                assert_eq!(libc::listen(again, 1), 0);
                assert_eq!(libc::shutdown(fd, libc::SHUT_WR), 0);
                libc::close(again);
            }
            assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
        })
        .run();
}
