//! Whether this machine is set up for so many connections, and the lines that
//! set it up where it is not.

use std::io;
use std::net::{TcpListener, TcpStream};

use crate::client::BATCH;
use crate::digits::grouped;
use crate::kernel::{Memory, setting, tcp_pages};
use crate::options::{MOST_SERVERS, Options};
use crate::server::Service;

/// Open files of a process that are not connections.
pub(crate) const OTHER_FILES: u64 = 64;

/// Connections from one source address. The kernel hands out 28 232 ports by
/// default, first every other one, and tries them one after the other: the more
/// are taken, the longer. With 14 000 the last ones come at some hundred a
/// second.
const PER_SOURCE: u64 = 4_000;

/// Ports that this wants: what Linux has by default, nearly.
const PORTS: u64 = 28_000;

/// Pages for what is on its way while connections are opened, and connections
/// of which one keeps a page although nothing is in its buffers: seen were 4 000
/// pages with a million.
const TCP_PAGES: u64 = 16_384;
const CONNECTIONS_A_PAGE: u64 = 64;

/// Kernel memory of a connection on loopback, both ends, and what the client
/// keeps of it.
const KERNEL_EACH: u64 = 10_000;

/// User memory of a connection in a server.
const SHARED_EACH: u64 = 600;
const DEDICATED_EACH: u64 = 4_700;

/// A server process and a client process before their first connection.
const PAIR: u64 = 12 << 20;

/// What is left to everybody else.
const SPARED: u64 = 3 << 30;

/// What the machine has.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Open files of a process.
    pub(crate) files: u64,
    /// What root may raise that to.
    pub(crate) nr_open: u64,
    /// Open files of all: in use, and at most.
    pub(crate) all_files: (u64, u64),
    /// Watched descriptors of this user's epolls.
    pub(crate) watches: u64,
    /// Ports for outgoing connections, the first and the last.
    pub(crate) ports: (u64, u64),
    /// Pages in TCP buffers: in use, and at most.
    pub(crate) tcp_pages: (u64, u64),
    pub(crate) backlog: u64,
    /// Tracked connections, in use and at most; `None` where loopback is not
    /// tracked.
    pub(crate) conntrack: Option<(u64, u64)>,
    /// Bytes of memory that can be had.
    pub(crate) available: u64,
}

/// One thing that was looked at.
#[derive(Debug)]
pub(crate) struct Check {
    what: &'static str,
    have: u64,
    want: u64,
    /// The line that sets it right.
    fix: String,
    /// Connections that it is enough for.
    room: u64,
}

/// How it will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    pub(crate) servers: usize,
    /// Connections from one source address.
    pub(crate) per_source: usize,
}

impl Machine {
    /// Raises this process's own limit as far as it may, and looks.
    pub(crate) fn look(connections: usize) -> io::Result<Self> {
        let wanted = connections as u64 + OTHER_FILES;
        let files = rlimit::increase_nofile_limit(u64::MAX)?;
        if files < wanted {
            // Takes a privilege, with which one server is enough.
            let _ = rlimit::setrlimit(rlimit::Resource::NOFILE, wanted, wanted);
        }
        let numbers = |name| setting(name).unwrap_or_default();
        let first = |name, otherwise| numbers(name).first().copied().unwrap_or(otherwise);
        let at = |name, index, otherwise| numbers(name).get(index).copied().unwrap_or(otherwise);
        Ok(Self {
            files: rlimit::getrlimit(rlimit::Resource::NOFILE)?.0,
            nr_open: first("fs/nr_open", u64::MAX),
            all_files: (first("fs/file-nr", 0), first("fs/file-max", u64::MAX)),
            watches: first("fs/epoll/max_user_watches", u64::MAX),
            ports: (
                at("net/ipv4/ip_local_port_range", 0, 32_768),
                at("net/ipv4/ip_local_port_range", 1, 60_999),
            ),
            tcp_pages: (tcp_pages()?, at("net/ipv4/tcp_mem", 2, u64::MAX)),
            backlog: first("net/core/somaxconn", 128),
            conntrack: conntrack()?,
            available: Memory::now()?.available,
        })
    }

    /// Connections that a process may have.
    fn files_room(&self) -> u64 {
        self.files.saturating_sub(OTHER_FILES)
    }

    /// Server processes for `n` connections.
    fn servers(&self, options: &Options, n: u64) -> u64 {
        let needed = n.div_ceil(self.files_room().max(1));
        options.servers.map_or(needed, |servers| servers as u64)
    }

    /// Looks at everything that so many connections need.
    pub(crate) fn checks(&self, options: &Options) -> Vec<Check> {
        let n = options.connections as u64;
        let pairs = self.servers(options, n);
        let mut checks = self.file_checks(options, n, pairs);
        checks.extend(self.network_checks(n));
        let user = match options.service {
            Service::Dedicated => DEDICATED_EACH,
            Service::Shared | Service::Lean => SHARED_EACH,
        };
        let (each, spared) = (KERNEL_EACH + user, SPARED + pairs * PAIR);
        let memory = check(
            "MiB of memory",
            self.available >> 20,
            (n * each + spared) >> 20,
        )
        .fixed_by("# more memory, or fewer --connections".into())
        .enough_for(self.available.saturating_sub(spared) / each);
        checks.push(memory);
        checks
    }

    fn file_checks(&self, options: &Options, n: u64, pairs: u64) -> Vec<Check> {
        // As many servers as it takes, though one is what we would like.
        let most = options.servers.unwrap_or(MOST_SERVERS) as u64;
        let files = n.div_ceil(options.servers.unwrap_or(1) as u64) + OTHER_FILES;
        let (in_use, all_files) = self.all_files;
        let others = in_use + 2 * pairs * OTHER_FILES;
        vec![
            check("open files of a process", self.files, files)
                .fixed_by(format!(
                    "ulimit -Hn {files} && ulimit -Sn {files}   # as root"
                ))
                .enough_for(most.saturating_mul(self.files_room())),
            check("open files that root may set", self.nr_open, files).sysctl("fs.nr_open"),
            check("open files of all", all_files, 2 * n + others)
                .sysctl("fs.file-max")
                .enough_for(all_files.saturating_sub(others) / 2),
            check("watches of epolls", self.watches, n)
                .sysctl("fs.epoll.max_user_watches")
                .enough_for(self.watches),
        ]
    }

    fn network_checks(&self, n: u64) -> Vec<Check> {
        let (pages, most_pages) = self.tcp_pages;
        let pages = pages + TCP_PAGES + n / CONNECTIONS_A_PAGE;
        let mut checks = vec![
            check("outgoing ports", self.port_count(), PORTS)
                .fixed_by("sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"".into()),
            check("pages of TCP buffers", most_pages, pages).fixed_by(format!(
                "sysctl -w net.ipv4.tcp_mem=\"{pages} {pages} {pages}\""
            )),
            check("backlog of a listener", self.backlog, BATCH as u64).sysctl("net.core.somaxconn"),
        ];
        if let Some((in_use, most)) = self.conntrack {
            let tracked = check("tracked connections", most, in_use + n)
                .sysctl("net.netfilter.nf_conntrack_max")
                .enough_for(most.saturating_sub(in_use));
            checks.push(tracked);
        }
        checks
    }

    fn port_count(&self) -> u64 {
        (self.ports.1 + 1).saturating_sub(self.ports.0)
    }

    /// What `checks` leave of what was asked.
    ///
    /// # Errors
    ///
    /// Nothing is left, or not enough for the servers asked for.
    pub(crate) fn plan(&self, options: &Options, checks: &[Check]) -> Result<Plan, String> {
        let room = checks.iter().map(|check| check.room).min().unwrap_or(0);
        let connections = room.min(options.connections as u64);
        let servers = self.servers(options, connections);
        if connections < servers.max(1) {
            return Err(format!(
                "there is room for {connections} connections only; see above"
            ));
        }
        let per_source = PER_SOURCE * self.port_count().min(PORTS) / PORTS;
        Ok(Plan {
            connections: connections as usize,
            servers: servers as usize,
            per_source: per_source.max(1) as usize,
        })
    }
}

fn check(what: &'static str, have: u64, want: u64) -> Check {
    Check {
        what,
        have,
        want,
        fix: String::new(),
        room: u64::MAX,
    }
}

impl Check {
    fn fixed_by(self, fix: String) -> Self {
        Self { fix, ..self }
    }

    fn sysctl(self, name: &str) -> Self {
        let fix = format!("sysctl -w {name}={}", self.want);
        self.fixed_by(fix)
    }

    fn enough_for(self, room: u64) -> Self {
        Self { room, ..self }
    }

    /// For people: a line, and one more with the remedy where it is missing.
    pub(crate) fn print(&self) {
        let Self {
            what, have, want, ..
        } = self;
        let short = if have < want { "  SHORT" } else { "" };
        println!(
            "  {what:29} {:>15}, wanted {:>13}{short}",
            grouped(*have),
            grouped(*want)
        );
        if have < want {
            println!("      {}", self.fix);
        }
    }
}

/// How many connections are tracked and may be, if those on loopback are: seen
/// by making some.
fn conntrack() -> io::Result<Option<(u64, u64)>> {
    const PROBES: usize = 16;
    let count = || Some(setting("net/netfilter/nf_conntrack_count")?[0]);
    let most = setting("net/netfilter/nf_conntrack_max");
    let (Some(most), Some(before)) = (most, count()) else {
        return Ok(None);
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let to = listener.local_addr()?;
    let probes: io::Result<Vec<_>> = (0..PROBES).map(|_| TcpStream::connect(to)).collect();
    let tracked = count().is_some_and(|now| now >= before + PROBES as u64);
    drop(probes?);
    Ok(tracked.then_some((before, most[0])))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options(connections: usize, servers: Option<usize>) -> Options {
        Options {
            connections,
            servers,
            time: Duration::from_secs(5),
            service: Service::Lean,
            json: false,
        }
    }

    fn large() -> Machine {
        Machine {
            files: 2_000_000,
            nr_open: 2_000_000,
            all_files: (1000, 10_000_000),
            watches: 10_000_000,
            ports: (32_768, 60_999),
            tcp_pages: (0, 1_000_000),
            backlog: 4096,
            conntrack: None,
            available: 64 << 30,
        }
    }

    fn short(machine: &Machine, options: &Options) -> Vec<(&'static str, String)> {
        let checks = machine.checks(options).into_iter();
        let short = checks.filter(|check| check.have < check.want);
        short.map(|check| (check.what, check.fix)).collect()
    }

    fn plan(machine: &Machine, options: &Options) -> Result<Plan, String> {
        machine.plan(options, &machine.checks(options))
    }

    #[test]
    fn a_large_machine_does_it_with_one_server() {
        let million = options(1_000_000, None);
        assert_eq!(short(&large(), &million), []);
        let expected = Plan {
            connections: 1_000_000,
            servers: 1,
            per_source: 4_000,
        };
        assert_eq!(plan(&large(), &million), Ok(expected));
    }

    #[test]
    fn few_open_files_take_more_servers() {
        let few = Machine {
            files: 20_000,
            ..large()
        };
        let auto = options(1_000_000, None);
        assert_eq!(plan(&few, &auto).unwrap().servers, 51);
        let [(_, fix)] = &short(&few, &auto)[..] else {
            panic!("the files alone are short")
        };
        assert!(fix.starts_with("ulimit -Hn 1000064"), "{fix}");
        let clamped = plan(&few, &options(1_000_000, Some(2))).unwrap();
        assert_eq!((clamped.connections, clamped.servers), (2 * 19_936, 2));
        let none = Machine { files: 64, ..few };
        assert!(plan(&none, &auto).is_err());
    }

    #[test]
    fn what_is_short_clamps_and_is_named_with_its_remedy() {
        let million = options(1_000_000, Some(60));
        let cases = [
            (
                Machine {
                    all_files: (1000, 500_000),
                    ..large()
                },
                "sysctl -w fs.file-max=2008680",
                true,
            ),
            (
                Machine {
                    watches: 300_000,
                    ..large()
                },
                "sysctl -w fs.epoll.max_user_watches=1000000",
                true,
            ),
            (
                Machine {
                    conntrack: Some((5, 262_144)),
                    ..large()
                },
                "sysctl -w net.netfilter.nf_conntrack_max=1000005",
                true,
            ),
            (
                Machine {
                    available: 8 << 30,
                    ..large()
                },
                "# more memory",
                true,
            ),
            (
                Machine {
                    nr_open: 1 << 10,
                    ..large()
                },
                "sysctl -w fs.nr_open=16731",
                false,
            ),
            (
                Machine {
                    ports: (60_000, 60_999),
                    ..large()
                },
                "sysctl -w net.ipv4.ip_local_port_range",
                false,
            ),
            (
                Machine {
                    tcp_pages: (7, 1000),
                    ..large()
                },
                "sysctl -w net.ipv4.tcp_mem=\"32016 32016 32016\"",
                false,
            ),
            (
                Machine {
                    backlog: 16,
                    ..large()
                },
                "sysctl -w net.core.somaxconn=64",
                false,
            ),
        ];
        for (machine, remedy, clamps) in cases {
            let short = short(&machine, &million);
            assert_eq!(short.len(), 1, "{remedy}: {short:?}");
            assert!(short[0].1.starts_with(remedy), "{remedy}: {short:?}");
            let left = plan(&machine, &million).unwrap().connections;
            assert_eq!(left < 1_000_000, clamps, "{remedy}: {left}");
        }
        let few_ports = Machine {
            ports: (60_000, 60_999),
            ..large()
        };
        assert_eq!(plan(&few_ports, &million).unwrap().per_source, 142);
    }
}
