//! What a test does to its simulation while it runs, and asks of it.

use std::time::Duration;

use super::machines::NodeId;
use super::net::Link;
use super::world::{Simulated, Skew, current};
use crate::time::wait::park;

/// The simulation that the caller is in.
#[track_caller]
fn here() -> &'static Simulated {
    current().expect("this is for the programs of a simulation")
}

/// How long the caller's simulation has lasted, by the true time, which no machine's clock
/// need show.
///
/// # Panics
///
/// Outside of simulations, as all functions here.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let year = Duration::from_secs(365 * 86_400);
/// let sim = crore::sim::Sim::new(1).limit(2 * year);
/// sim.client("sleeper", move || {
///     std::thread::sleep(year);
///     assert!(crore::sim::elapsed() >= year);
/// })
/// .run();
/// ```
#[track_caller]
pub fn elapsed() -> Duration {
    Duration::from_nanos(here().now())
}

/// A number below `n` for the test's own decisions, by the seed; 0 if there is none.
///
/// # Examples
///
/// ```
/// crore::sim::Sim::new(1).client("die", || assert!(crore::sim::random(6) < 6)).run();
/// ```
#[track_caller]
pub fn random(n: u64) -> u64 {
    ((u128::from(here().draw()) * u128::from(n)) >> 64) as u64
}

/// Ends a node at once: no code of its coroutines runs any more, not even destructors; its
/// connections are reset. What it had in memory is never given back. Does not return if
/// it is the caller's own.
///
/// # Panics
///
/// If there is no such node.
///
/// # Examples
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use std::thread::sleep;
/// use std::time::Duration;
/// use crore::sim::{Sim, crash, restart};
///
/// Sim::new(1)
///     .node("server", || {
///         let listener = TcpListener::bind("0.0.0.0:80").unwrap();
///         listener.incoming().for_each(drop);
///     })
///     .client("client", || {
///         sleep(Duration::from_secs(1));
///         assert!(TcpStream::connect("server:80").is_ok());
///         crash("server");
///         assert!(TcpStream::connect("server:80").is_err());
///         restart("server");
///         sleep(Duration::from_secs(1));
///         assert!(TcpStream::connect("server:80").is_ok());
///     })
///     .run();
/// ```
#[track_caller]
pub fn crash(node: &str) {
    let world = here();
    let node = world.find(node);
    world.did(node as u64, format_args!("{} crashes", world.name(node)));
    if world.node() == Some(node) {
        world.machines.crashing.borrow_mut().push(node);
        world.machines.tell_supervisor();
        loop {
            park();
        }
    }
    world.stop(node);
}

/// Starts a node that has crashed.
///
/// # Panics
///
/// If there is no such node.
///
/// # Examples
///
/// ```
/// let sim = crore::sim::Sim::new(1).node("one", || {});
/// sim.client("test", || {
///     crore::sim::crash("one");
///     crore::sim::restart("one");
/// })
/// .run();
/// ```
#[track_caller]
pub fn restart(node: &str) {
    let world = here();
    let node = world.find(node);
    world.did(node as u64, format_args!("{} starts", world.name(node)));
    world.start(node);
}

/// Nothing that `from` sends reaches `to`, until it is [healed](heal).
///
/// # Panics
///
/// If there is no such machine.
///
/// # Examples
///
/// ```
/// use std::net::UdpSocket;
/// use std::time::Duration;
/// use crore::sim::{Sim, cut, heal};
///
/// Sim::new(1)
///     .node("server", || {
///         let socket = UdpSocket::bind("0.0.0.0:7").unwrap();
///         let mut word = [0; 9];
///         while let Ok((len, from)) = socket.recv_from(&mut word) {
///             socket.send_to(&word[..len], from).unwrap();
///         }
///     })
///     .client("client", || {
///         std::thread::sleep(Duration::from_secs(1));
///         let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
///         socket.connect("server:7").unwrap();
///         socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
///         cut("server", "client");
///         socket.send(b"one").unwrap();
///         assert!(socket.recv(&mut [0; 9]).is_err());
///         heal("server", "client");
///         socket.send(b"two").unwrap();
///         assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 3);
///     })
///     .run();
/// ```
#[track_caller]
pub fn cut(from: &str, to: &str) {
    set_cut(from, to, true);
}

/// Ends a [`cut`].
///
/// # Panics
///
/// If there is no such machine.
///
/// # Examples
///
/// ```
/// let sim = crore::sim::Sim::new(1).node("one", || {});
/// sim.client("test", || {
///     crore::sim::cut("one", "test");
///     crore::sim::heal("one", "test");
/// })
/// .run();
/// ```
#[track_caller]
pub fn heal(from: &str, to: &str) {
    set_cut(from, to, false);
}

#[track_caller]
fn set_cut(from: &str, to: &str, cut: bool) {
    let world = here();
    let (one, other) = (world.find(from), world.find(to));
    let what = if cut { "is cut off from" } else { "reaches" };
    world.did(u64::from(cut), format_args!("{from} {what} {to}"));
    world.cut(one, other, cut);
}

/// How the network from one machine to another is from now on.
///
/// # Panics
///
/// If there is no such machine.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use crore::sim::{Link, Sim, set_link};
///
/// let far = Link { latency: Duration::from_millis(150), ..Link::default() };
/// let sim = Sim::new(1).node("one", || {});
/// sim.client("test", move || set_link("one", "test", far)).run();
/// ```
#[track_caller]
pub fn set_link(from: &str, to: &str, link: Link) {
    let world = here();
    let (from, to) = (world.find(from), world.find(to));
    world.net.borrow_mut().set_link(from, to, link);
}

/// Sets a machine's time of day so far ahead (or behind), and how many parts in a million
/// it gains on the true one.
///
/// # Panics
///
/// If there is no such machine.
///
/// # Examples
///
/// ```
/// use std::time::SystemTime;
///
/// crore::sim::Sim::new(1)
///     .client("test", || {
///         let before = SystemTime::now();
///         crore::sim::set_clock("test", -60.0, 0.0);
///         assert!(SystemTime::now() < before); // programs must live with that
///     })
///     .run();
/// ```
#[track_caller]
pub fn set_clock(node: &str, ahead_seconds: f64, drift_ppm: f64) {
    let world = here();
    let node = world.find(node);
    world.skews.borrow_mut()[node] = Skew {
        offset: (ahead_seconds * 1e9) as i64,
        drift: (drift_ppm * 1e3) as i64,
    };
}

/// From here on a machine may have so many descriptors: `socket`, `accept`, `open`, `dup` and
/// their like fail with `EMFILE` where one more would be too many. Epolls and `eventfd`s
/// are not counted.
///
/// # Panics
///
/// If there is no such machine.
///
/// # Examples
///
/// ```
/// use std::net::UdpSocket;
///
/// crore::sim::Sim::new(1)
///     .client("test", || {
///         crore::sim::limit_descriptors("test", 2);
///         let socket = || UdpSocket::bind("0.0.0.0:0");
///         let (_one, two) = (socket().unwrap(), socket().unwrap());
///         assert_eq!(socket().unwrap_err().raw_os_error(), Some(24)); // EMFILE
///         drop(two);
///         assert!(socket().is_ok());
///     })
///     .run();
/// ```
#[track_caller]
pub fn limit_descriptors(node: &str, most: usize) {
    let world = here();
    let node = world.find(node);
    world.calls.borrow_mut().limit_descriptors(node, most);
}

/// From here on a machine's [disk](super::Sim::disks) has so many bytes for what is in files:
/// a write that makes one longer takes what there is room for, and fails with `ENOSPC` if
/// there is none.
///
/// # Panics
///
/// If there is no such machine.
///
/// # Examples
///
/// ```
/// use std::fs::{self, File};
/// use std::io::Write;
/// use crore::sim::{Sim, limit_disk};
///
/// let root = std::env::temp_dir().join(format!("crore-limit-{}", std::process::id()));
/// fs::create_dir_all(root.join("one")).unwrap();
/// let path = root.join("one/log");
/// Sim::new(1)
///     .disks(&root)
///     .client("one", move || {
///         limit_disk("one", 10);
///         let mut file = File::create(&path).unwrap();
///         assert_eq!(file.write(b"hello, world").unwrap(), 10);
///         assert_eq!(file.write(b"ld").unwrap_err().raw_os_error(), Some(28)); // ENOSPC
///     })
///     .run();
/// fs::remove_dir_all(&root).unwrap();
/// ```
#[track_caller]
pub fn limit_disk(node: &str, bytes: u64) {
    let world = here();
    let node = world.find(node);
    world.calls.borrow_mut().limit_disk(node, bytes);
}

impl Simulated {
    pub(super) fn cut(&self, from: NodeId, to: NodeId, cut: bool) {
        self.on_net(|net| net.partition(from, to, cut));
    }

    pub(super) fn isolate(&self, node: NodeId, cut: bool) {
        for other in (0..self.names.len()).filter(|&other| other != node) {
            self.cut(node, other, cut);
            self.cut(other, node, cut);
        }
    }

    pub(super) fn reset(&self, one: NodeId, other: NodeId) {
        self.on_net(|net| net.reset_all(one, other));
    }

    pub(super) fn link_all(&self, link: Link) {
        let mut net = self.net.borrow_mut();
        let count = self.names.len();
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            net.set_link(from, to, link);
        }
    }
}
