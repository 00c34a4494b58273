//! Random sequences of calls on some pairs of ends, by seeds. `CRORE_MIRROR_SEEDS=1000`
//! plays more of them, `CRORE_MIRROR_SEED=17` that one.

use std::env;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::calls::{self, Vectored};
use super::ends::Kind;
use super::worlds::{Call, Story, Threads, retold};

/// How many seeds are played, and the calls of each.
const SEEDS: u64 = 12;
const STEPS: usize = 40;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// The kinds of pairs of a seed, and the generator of its calls.
fn world(seed: u64) -> (Vec<Kind>, Random) {
    let mut random = Random(seed);
    let kinds = (0..3).map(|_| random.of(&Kind::ALL)).collect();
    (kinds, random)
}

fn ends(kinds: &[Kind]) -> Vec<OwnedFd> {
    kinds.iter().flat_map(|kind| kind.ends()).collect()
}

/// A call, its name, and the sides of ends that it uses, which no other call may use while
/// it waits: who of two is served first is nobody's promise.
type Chosen = (String, Call, Vec<(usize, Side)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Read,
    Write,
}

fn choose(random: &mut Random, kinds: &[Kind]) -> Chosen {
    let pick = |random: &mut Random, side| {
        // Each pair is rather read at its first end and written at its second.
        let pair = random.below(kinds.len());
        let first = (side == Side::Read) != random.one_in(6);
        2 * pair + usize::from(!first)
    };
    let from = pick(random, Side::Read);
    let to = pick(random, Side::Write);
    let socket_from = kinds[from / 2].is_socket();
    let socket_to = kinds[to / 2].is_socket();
    let mark = random.next() as u8;
    let size = |random: &mut Random| random.of(&[0, 1, 4, 8, 8, 30, 700, 5000]);
    let sizes = |random: &mut Random| -> Vec<usize> {
        (0..1 + random.below(3))
            .map(|_| random.of(&[0, 3, 8, 50, 3000]))
            .collect()
    };
    let n = size(random);
    let reads = vec![(from, Side::Read)];
    let writes = vec![(to, Side::Write)];
    // What the kernel takes from a pipe for a full socket keeps the pipe locked.
    let both = vec![
        (from, Side::Read),
        (from ^ 1, Side::Read),
        (from ^ 1, Side::Write),
        (to, Side::Write),
    ];
    let wait = random.of(&[0, libc::MSG_DONTWAIT, 0, 0]);
    let nonblock = random.of(&[0, libc::SPLICE_F_NONBLOCK]);
    match random.below(26) {
        0..=2 => (format!("read {from} {n}"), calls::read(from, n), reads),
        3..=5 => (format!("write {to} {n}"), calls::write(to, n, mark), writes),
        6 => {
            let (lengths, how) = (sizes(random), vectored(random));
            let name = format!("readv {from} {lengths:?} {how:?}");
            (name, calls::readv(from, lengths, how), reads)
        }
        7 => {
            let (lengths, how) = (sizes(random), vectored(random));
            let name = format!("writev {to} {lengths:?} {how:?}");
            (name, calls::writev(to, lengths, mark, how), writes)
        }
        8 | 9 => {
            let more = [
                0,
                libc::MSG_PEEK,
                libc::MSG_TRUNC,
                libc::MSG_WAITALL,
                libc::MSG_OOB,
            ];
            // (The kernel may look for a message of no bytes for ever.)
            let flags = wait | if n == 0 { 0 } else { random.of(&more) };
            (
                format!("recv {from} {n} {flags:x}"),
                calls::recv(from, n, flags),
                reads,
            )
        }
        10 | 11 => {
            let flags = wait | random.of(&[0, libc::MSG_NOSIGNAL]);
            (
                format!("send {to} {n} {flags:x}"),
                calls::send(to, n, mark, flags),
                writes,
            )
        }
        12 if socket_from => {
            let (lengths, flags) = (sizes(random), wait | random.of(&[0, libc::MSG_PEEK]));
            let name = format!("recvmsg {from} {lengths:?} {flags:x}");
            (name, calls::recvmsg(from, lengths, flags), reads)
        }
        13 if socket_from => {
            let (lengths, flags) = (sizes(random), wait | random.of(&[0, libc::MSG_WAITFORONE]));
            let name = format!("recvmmsg {from} {lengths:?} {flags:x}");
            (name, calls::recvmmsg(from, lengths, flags), reads)
        }
        14 if socket_to => {
            let lengths = sizes(random);
            let name = format!("sendmmsg {to} {lengths:?} {wait:x}");
            (name, calls::sendmmsg(to, lengths, mark, wait), writes)
        }
        15 => {
            let name = format!("splice {from} {to} {n} {nonblock}");
            (name, calls::splice(from, to, n, nonblock), both)
        }
        16 => (
            format!("tee {from} {to} {n} {nonblock}"),
            calls::tee(from, to, n, nonblock),
            both,
        ),
        17 => {
            let at = random.of(&[None, Some(0), Some(2990)]);
            (
                format!("sendfile {from} {to} {at:?} {n}"),
                calls::sendfile(from, to, at, n),
                both,
            )
        }
        18 | 19 => poll(random, kinds),
        20 => {
            let waits = random.one_in(2);
            let name = format!("select [{from}] [{to}] {waits}");
            let sides =
                [(from, to), (to, from)].map(|(end, _)| [(end, Side::Read), (end, Side::Write)]);
            (
                name,
                calls::select(vec![from], vec![to], waits),
                sides.concat(),
            )
        }
        21 => {
            let events = random.of(&[
                libc::EPOLLIN,
                libc::EPOLLOUT,
                libc::EPOLLIN | libc::EPOLLRDHUP,
            ]);
            let events =
                events as u32 | random.of(&[0, libc::EPOLLET as u32, libc::EPOLLONESHOT as u32]);
            let timeout = random.of(&[0, -1]);
            let sides = vec![(from, Side::Read), (from, Side::Write)];
            let name = format!("epoll {from} {events:x} {timeout}");
            (name, calls::epoll(vec![(from, events)], timeout), sides)
        }
        22 if random.one_in(3) => {
            let how = random.of(&[libc::SHUT_RD, libc::SHUT_WR, libc::SHUT_RDWR]);
            (
                format!("shutdown {from} {how}"),
                calls::shutdown(from, how),
                vec![],
            )
        }
        23 => {
            let (end, yes) = (random.of(&[from, to]), random.one_in(2));
            let sides = vec![(end, Side::Read), (end, Side::Write)];
            (
                format!("nonblocking {end} {yes}"),
                calls::nonblocking(end, yes),
                sides,
            )
        }
        24 if random.one_in(4) => {
            let sides = vec![(to, Side::Read), (to, Side::Write)];
            (format!("replaced {to}"), calls::replaced(to), sides)
        }
        _ => (format!("flags {from}"), calls::flags(vec![from]), vec![]),
    }
}

fn vectored(random: &mut Random) -> Vectored {
    match random.below(5) {
        0 => Vectored::At(random.of(&[0, 10, -1])),
        1 => Vectored::Flags(
            random.of(&[-1, -1, 5, -2]),
            random.of(&[0, libc::RWF_HIPRI, 1 << 20]),
        ),
        _ => Vectored::Here,
    }
}

fn poll(random: &mut Random, kinds: &[Kind]) -> Chosen {
    let events = [
        libc::POLLIN,
        libc::POLLOUT,
        libc::POLLRDHUP,
        libc::POLLPRI,
        0,
    ];
    let entries: Vec<_> = (0..1 + random.below(3))
        .map(|_| {
            let end = (!random.one_in(5)).then(|| random.below(2 * kinds.len()));
            (end, random.of(&events) | random.of(&events))
        })
        .collect();
    let timeout = random.of(&[0, -1]);
    let used = entries.iter().filter_map(|&(end, _)| end);
    let sides = used
        .flat_map(|end| [(end, Side::Read), (end, Side::Write)])
        .collect();
    (
        format!("poll {entries:x?} {timeout}"),
        calls::poll(entries, timeout),
        sides,
    )
}

/// Plays a seed on threads.
fn tell(seed: u64) -> (Vec<Kind>, Arc<Story>) {
    let (kinds, mut random) = world(seed);
    let mut threads = Threads::new(ends(&kinds));
    let mut used: Vec<Vec<(usize, Side)>> = Vec::new();
    while used.len() < STEPS {
        let (name, call, sides) = choose(&mut random, &kinds);
        if used.iter().flatten().any(|side| sides.contains(side)) {
            continue;
        }
        used.push(sides);
        for (over, _) in threads.step(name, call) {
            used[*over].clear();
        }
    }
    (kinds, Arc::new(threads.end()))
}

#[test]
fn random_calls_say_what_they_say_on_threads() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match number("CRORE_MIRROR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CRORE_MIRROR_SEEDS").unwrap_or(SEEDS),
    };
    let mut differences = Vec::new();
    for seed in seeds {
        // A difference is one that comes again, as in `splices.rs`.
        let play = |_| {
            let (kinds, story) = tell(seed);
            let retold = retold(&story, ends(&kinds));
            retold.map_err(|text| format!("seed {seed}, {kinds:?}: {text}"))
        };
        let played = (0..3).map(play).take_while(Result::is_err);
        differences.extend(played.filter_map(Result::err).nth(2));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}
