//! MariaDB with its default options: InnoDB by way of io_uring, its pools of threads, its
//! thread for signals; a clean end, and recovery where there was none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{CRORE, Folder, command, said};

/// How often transactions are looked for: what the server knows of them it keeps for as long
/// as it is asked for within a tenth of a second.
const LOOK: Duration = Duration::from_millis(200);

/// A server and its data. (Its temporary files are its own: one that starts removes
/// tables from the folder that others may use, too.)
struct Database {
    home: PathBuf,
    server: Child,
}

impl Database {
    fn start(workers: Option<usize>, home: &Path) -> Self {
        for folder in ["data", "tmp"] {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        let at = |option: &str, name: &str| format!("--{option}={}", home.join(name).display());
        let mut server = command(workers, Path::new("/usr/sbin/mariadbd"));
        server
            .arg("--no-defaults")
            .args([at("datadir", "data"), at("tmpdir", "tmp")])
            .args([at("socket", "socket"), at("pid-file", "pid")])
            .args([at("log-error", "log.err")])
            .args(["--skip-networking", "--skip-grant-tables", "--user=root"])
            .env("TMPDIR", home.join("tmp"));
        let server = server.spawn().unwrap();
        let mut this = Self {
            home: home.to_owned(),
            server,
        };
        let begun = Instant::now();
        while this.said("select 1").0 != Some(0) {
            let ended = this.server.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", this.log());
            assert!(begun.elapsed() < Duration::from_secs(90), "{}", this.log());
            thread::sleep(Duration::from_millis(50));
        }
        this
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("log.err")).unwrap_or_default()
    }

    fn said(&self, statements: &str) -> (Option<i32>, String, String) {
        let mut client = Command::new("mariadb");
        client
            .args([
                "--no-defaults",
                "--user=root",
                "--batch",
                "--skip-column-names",
            ])
            .arg("--socket")
            .arg(self.home.join("socket"))
            .args(["--execute", statements]);
        said(&mut client)
    }

    fn ask(&self, statements: &str) -> String {
        let (code, out, error) = self.said(statements);
        assert_eq!(code, Some(0), "{statements}: {error}{}", self.log());
        out
    }

    /// Many clients at once, each with transactions of its own and of all.
    fn load(&self) {
        thread::scope(|scope| {
            for client in 0..12 {
                scope.spawn(move || {
                    let one = format!(
                        "begin; insert into d.rows(client, text) values ({client}, md5({client})); \
                         update d.sum set total = total + 1 where id = 1; commit;"
                    );
                    self.ask(&one.repeat(25));
                });
            }
        });
    }

    fn number(&self) -> i32 {
        let text = fs::read_to_string(self.home.join("pid")).unwrap();
        text.trim().parse().unwrap()
    }

    /// Sends it a signal; how it ended.
    fn end(mut self, signal: i32) -> Option<i32> {
        // SAFETY: no pointers; the server's process.
        unsafe { libc::kill(self.number(), signal) };
        self.server.wait().unwrap().code()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Ok(None) = self.server.try_wait() {
            // SAFETY: as above.
            unsafe { libc::kill(self.number(), libc::SIGKILL) };
            let _ = self.server.wait();
        }
    }
}

fn a_life(workers: Option<usize>) -> (String, Option<i32>) {
    let folder = Folder::new(&format!("mariadb-{workers:?}"));
    let home = folder.0.as_path();
    let server = Database::start(workers, home);
    assert_eq!(server.ask("select @@innodb_use_native_aio"), "1\n");
    server.ask(
        "create database d; \
         create table d.rows(id int primary key auto_increment, client int, text varchar(40)) \
         engine=innodb; \
         create table d.sum(id int primary key, total int) engine=innodb; \
         insert into d.sum values (1, 0)",
    );
    server.load();
    server.ask("alter table d.rows add index(text); analyze table d.rows");
    assert!(server.end(libc::SIGTERM) == Some(0), "a clean end");

    let server = Database::start(workers, home);
    assert!(!server.log().contains("crash recovery"), "{}", server.log());
    server.load();
    // With a transaction that is under way.
    let mut open = Command::new("mariadb");
    open.args(["--no-defaults", "--user=root", "--socket"])
        .arg(home.join("socket"))
        .args(["--execute", "begin; delete from d.rows; select sleep(100)"]);
    let mut open = open.spawn().unwrap();
    while server.ask("select count(*) from information_schema.innodb_trx") == "0\n" {
        thread::sleep(LOOK);
    }
    server.end(libc::SIGKILL);
    let _ = open.kill();
    open.wait().unwrap();

    let server = Database::start(workers, home);
    assert!(server.log().contains("crash recovery"), "{}", server.log());
    // What was under way is undone in the background.
    while server.ask("select count(*) from information_schema.innodb_trx") != "0\n" {
        thread::sleep(LOOK);
    }
    let mut text = server.ask("check table d.rows, d.sum");
    text += &server.ask(
        "select client, count(*), count(distinct text) from d.rows group by client; \
         select total from d.sum",
    );
    (text, server.end(libc::SIGTERM))
}

#[test]
fn mariadb_lives_with_its_default_options() {
    let plain = a_life(None);
    assert!(plain.0.ends_with("600\n"), "{}", plain.0);
    assert_eq!(plain.1, Some(0));
    for workers in [1, 2] {
        assert_eq!(a_life(Some(workers)), plain, "{workers} workers");
    }
}

/// A client that keeps its connection.
struct Client(Child);

impl Client {
    fn start(home: &Path, statements: &[&str]) -> Self {
        let mut client = Command::new("mariadb");
        client
            .args(["--no-defaults", "--user=root", "--batch", "--socket"])
            .arg(home.join("socket"))
            .stdin(Stdio::piped());
        for statement in statements {
            client.args(["--execute", statement]);
        }
        Self(client.spawn().unwrap())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Three that sleep in the midst of a statement, and two that wait for the next one.
#[test]
fn a_dump_of_mariadb_has_the_thread_of_each_connection_with_its_stack() {
    let folder = Folder::new("mariadb-dump");
    let home = folder.0.as_path();
    let server = Database::start(Some(2), home);
    let asleep = (0..3).map(|_| Client::start(home, &["select sleep(1000)"]));
    let idle = (0..2).map(|_| Client::start(home, &[]));
    let clients: Vec<_> = asleep.chain(idle).collect();
    let process = server.number().to_string();
    let count = |text: &str, function: &str| -> usize {
        let with_it = text.split("\n\n").filter(|group| group.contains(function));
        // "3 parked for 0.1 s, …" of each worker's.
        let first = |group: &str| group.split(' ').next().unwrap().parse::<usize>().unwrap();
        with_it.map(first).sum()
    };
    let begun = Instant::now();
    loop {
        let (code, text, error) = said(Command::new(CRORE).args(["dump", &process]));
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let asleep = count(&text, "Item_func_sleep");
        // All five came through here.
        let connections = count(&text, "do_handle_one_connection");
        if (asleep, connections) == (3, 5) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{text}");
        thread::sleep(LOOK);
    }
    drop(clients);
    assert_eq!(server.end(libc::SIGTERM), Some(0));
}
