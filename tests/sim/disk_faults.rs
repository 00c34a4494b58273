//! Disks of simulated machines that fail, lose what was written, are full, or slow; and
//! `/dev/urandom`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crore::sim::{self, Faults, Sim};

use crate::calls::check_of;

const SECOND: Duration = Duration::from_secs(1);

/// A directory of this process's, for the disk of the node `store`; it goes with this.
struct Root(PathBuf);

impl Root {
    fn new(test: &str) -> Self {
        let root = std::env::temp_dir().join(format!("crore-{test}-{}", std::process::id()));
        fs::create_dir_all(root.join("store")).unwrap();
        Self(root)
    }

    fn dir(&self) -> PathBuf {
        self.0.join("store")
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Has a record kept; says whether it is.
type Keep = fn(&Path, &str) -> io::Result<()>;

/// A node keeps a record every second, and says which are kept; after a crash at the end
/// those are to be there.
fn keeps(sim: Sim, add: fn(Faults) -> Faults, keep: Keep) {
    let root = Root::new("keeps");
    let path = root.dir().join("log");
    let kept = Arc::new(Mutex::new(Vec::new()));
    let (file, theirs) = (path.clone(), Arc::clone(&kept));
    let faults = Faults::within(30 * SECOND).crashes(2).clocks(2);
    sim.disks(&root.0)
        .faults(add(faults).lasting(10 * SECOND))
        .node("store", move || {
            for _ in 0..1000 {
                let record = format!("{:09}\n", sim::random(1_000_000_000));
                if keep(&file, &record).is_ok() {
                    theirs.lock().unwrap().push(record);
                }
                thread::sleep(SECOND);
            }
        })
        .client("test", move || {
            thread::sleep(45 * SECOND);
            sim::crash("store");
            let found = fs::read_to_string(path).unwrap_or_default();
            let kept = kept.lock().unwrap();
            let lost = kept.iter().filter(|record| !found.contains(&***record));
            let lost: Vec<_> = lost.collect();
            assert!(lost.is_empty(), "lost are {lost:?}");
        })
        .run();
}

fn all_of_disks(faults: Faults) -> Faults {
    let faults = faults.short_transfers(3).disk_errors(3);
    faults.full_disks(2).slow_disks(3)
}

/// Writes all records anew into another file, which takes the name when it is on the disk.
fn carefully(path: &Path, record: &str) -> io::Result<()> {
    let mut all = match fs::read(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        found => found.unwrap_or_default(),
    };
    all.extend_from_slice(record.as_bytes());
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&all)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    File::open(path.parent().unwrap())?.sync_all()
}

fn append(path: &Path) -> io::Result<File> {
    let is_new = !path.exists();
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    if is_new {
        File::open(path.parent().unwrap())?.sync_all()?;
    }
    Ok(file)
}

/// Believes the second sync.
fn syncs_again(path: &Path, record: &str) -> io::Result<()> {
    let mut file = append(path)?;
    file.write_all(record.as_bytes())?;
    file.sync_all().or_else(|_| file.sync_all())
}

/// Does not look how much was written.
fn writes_once(path: &Path, record: &str) -> io::Result<()> {
    let mut file = append(path)?;
    let _ = file.write(record.as_bytes())?;
    file.sync_all()
}

/// Takes it that there is room.
fn has_room(path: &Path, record: &str) -> io::Result<()> {
    let mut file = append(path)?;
    let _ = file.write_all(record.as_bytes());
    file.sync_all()
}

/// Takes it that a sync takes half a second at most.
fn syncs_in_time(path: &Path, record: &str) -> io::Result<()> {
    let mut file = append(path)?;
    file.write_all(record.as_bytes())?;
    thread::spawn(move || file.sync_all());
    thread::sleep(SECOND / 2);
    Ok(())
}

#[test]
fn careful_stores_lose_nothing() {
    sim::check(0..100, |sim| keeps(sim, all_of_disks, carefully));
}

#[test]
fn faults_of_disks_repeat() {
    sim::check_repeats(0..10, |sim| keeps(sim, all_of_disks, carefully));
}

macro_rules! planted {
    ($($test:ident of $program:ident: $add:expr, $count:literal, $words:literal;)*) => {
        mod planted {
            $(#[test]
            #[ignore = "it fails"]
            fn $program() {
                super::sim::check(0..300, |sim| super::keeps(sim, $add, super::$program));
            })*
        }

        /// Found among other faults, of which those are left that it takes. (What a sync
        /// lost is written with the next record, but for a crash before.)
        $(#[test]
        fn $test() {
            let said = check_of(concat!("disk_faults::planted::", stringify!($program)));
            assert!(said.contains("lost are ["), "{said}");
            assert!(said.contains($count), "{said}");
            assert!(said.contains($words), "{said}");
        })*
    };
}

planted! {
    who_syncs_again_is_found of syncs_again:
        |faults| faults.disk_errors(3), " of its 7 faults", "store has a disk that fails";
    who_writes_once_is_found of writes_once:
        |faults| faults.short_transfers(3), " with 1 of its ", "store reads and writes a part";
    who_has_no_room_is_found of has_room:
        |faults| faults.full_disks(3), " with 1 of its ", "store has no room on its disk";
}

/// It takes the crash, too, unless it is the last.
#[test]
fn who_does_not_wait_for_the_disk_is_found() {
    let found = std::panic::catch_unwind(|| {
        sim::check(0..300, |sim| {
            keeps(sim, |faults| faults.crashes(9).slow_disks(5), syncs_in_time);
        });
    });
    let said = *found.unwrap_err().downcast::<String>().unwrap();
    assert!(said.starts_with("lost are ["), "{said}");
}

/// What is done in a machine's directory while its disk has a fault all the time.
fn with_fault(test: &str, add: fn(Faults) -> Faults, act: fn(&Path)) {
    for seed in 0..20 {
        let root = Root::new(test);
        let dir = root.dir();
        let faults = Faults::within(Duration::from_nanos(1)).lasting(100_000 * SECOND);
        Sim::new(seed)
            .limit(200_000 * SECOND)
            .disks(&root.0)
            .faults(add(faults))
            .node("store", move || {
                thread::sleep(SECOND);
                act(&dir);
            })
            .client("test", || thread::sleep(60 * SECOND))
            .run();
    }
}

fn until_done<T>(mut act: impl FnMut() -> io::Result<T>) -> T {
    loop {
        match act() {
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EIO)),
            Ok(done) => return done,
        }
    }
}

/// By every call that moves bytes of files.
#[test]
fn errors_have_done_nothing() {
    with_fault(
        "errors",
        |faults| faults.disk_errors(1),
        |dir| {
            let mut options = OpenOptions::new();
            let options = options.create(true).truncate(true).read(true).write(true);
            let mut file = options.open(dir.join("file")).unwrap();
            until_done(|| file.write_all(b"one "));
            until_done(|| file.write_all_at(b"two ", 4));
            let parts = [io::IoSlice::new(b"th"), io::IoSlice::new(b"ree")];
            use std::io::Seek;
            file.seek(io::SeekFrom::Start(8)).unwrap();
            assert_eq!(until_done(|| file.write_vectored(&parts)), 5);
            let mut text = [0; 13];
            until_done(|| file.read_exact_at(&mut text, 0));
            assert_eq!(&text, b"one two three");
            file.rewind().unwrap();
            let mut text = String::new();
            until_done(|| {
                text.clear();
                file.rewind()?;
                file.read_to_string(&mut text)
            });
            assert_eq!(text, "one two three");
            // Other files are none of its disk.
            for _ in 0..20 {
                fs::read("/proc/self/cmdline").unwrap();
            }
        },
    );
}

/// A sync that has failed is not made good by one that does not; a page that is
/// written again is.
#[test]
fn a_failed_sync_loses_what_was_written() {
    fn act(dir: &Path) {
        let file = File::create(dir.join("file")).unwrap();
        until_done(|| file.sync_all());
        File::open(dir)
            .map(|dir| until_done(|| dir.sync_all()))
            .unwrap();
        until_done(|| file.write_all_at(&[b'a'; 8192], 0));
        let first = file.sync_all().is_ok();
        until_done(|| file.sync_all());
        until_done(|| file.write_all_at(b"b", 5000));
        let second = file.sync_data().is_ok();
        until_done(|| file.sync_data());
        let synced = format!("{first} {second}");
        fs::write(dir.parent().unwrap().join("synced"), synced).unwrap();
        let whole = until_done(|| fs::read(dir.join("file")));
        assert_eq!(whole.len(), 8192, "until the crash all is there");
        sim::crash("store");
    }
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let root = Root::new("loses");
        let dir = root.dir();
        let faults = Faults::within(Duration::from_nanos(1)).lasting(1000 * SECOND);
        Sim::new(seed)
            .disks(&root.0)
            .faults(faults.disk_errors(1))
            .node("store", move || act(&dir))
            .client("test", || thread::sleep(60 * SECOND))
            .run();
        let synced = fs::read_to_string(root.0.join("synced")).unwrap();
        let found = fs::read(root.dir().join("file")).unwrap();
        let expected = match &*synced {
            "true true" | "true false" => [b'a'; 8192].to_vec(),
            "false true" => [[0; 4096], [b'a'; 4096]].concat(),
            _ => Vec::new(),
        };
        let at = expected.len().min(5000);
        assert!(found[..at] == expected[..at], "{synced}");
        let b = found.get(at).copied();
        let rescued = synced.ends_with("true").then_some(b'b');
        assert_eq!(b, rescued.or(expected.get(at).copied()), "{synced}");
        seen.insert(synced);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_full_disk_has_room_in_files_that_are_there() {
    let root = Root::new("full");
    let dir = root.dir();
    Sim::new(1)
        .disks(&root.0)
        .client("store", move || {
            let full = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            let mut file = File::create(dir.join("file")).unwrap();
            file.write_all(b"0123456789").unwrap();
            sim::limit_disk("store", 16);
            assert_eq!(file.write(b"abcdefgh").unwrap(), 6);
            full(file.write(b"gh").unwrap_err());
            full(file.write_all_at(b"gh", 16).unwrap_err());
            // All that fits, and then the error.
            full(file.write_all_at(b"efgh", 14).unwrap_err());
            file.write_all_at(b"ABC", 10).unwrap();
            use std::os::fd::AsRawFd;
            // SAFETY: an open descriptor.
            let asked = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, 17) };
            assert_eq!(asked, libc::ENOSPC);
            let mut other = File::create(dir.join("other")).unwrap();
            full(other.write(b"x").unwrap_err());
            file.set_len(15).unwrap();
            other.write_all(b"x").unwrap();
            full(other.write(b"x").unwrap_err());
            fs::remove_file(dir.join("file")).unwrap();
            other.write_all(b"fifteen bytes..").unwrap();
            assert_eq!(fs::read(dir.join("other")).unwrap(), b"xfifteen bytes..");
        })
        .run();
}

/// Others run meanwhile, and the time is the simulation's.
#[test]
fn a_slow_sync_takes_its_callers_time() {
    static SYNCED: Mutex<Duration> = Mutex::new(Duration::ZERO);
    with_fault(
        "slow",
        |faults| faults.slow_disks(1),
        |dir| {
            let file = File::create(dir.join("file")).unwrap();
            let ticks = Arc::new(Mutex::new(0_u128));
            let theirs = Arc::clone(&ticks);
            thread::spawn(move || {
                for _ in 0..2000 {
                    thread::sleep(Duration::from_millis(10));
                    *theirs.lock().unwrap() += 1;
                }
            });
            let began = Instant::now();
            (0..10).for_each(|_| file.sync_all().unwrap());
            let (took, ticks) = (began.elapsed(), *ticks.lock().unwrap());
            assert!(took > SECOND && took < 10 * SECOND, "{took:?}");
            let expected = took.as_millis() / 10;
            assert!(ticks.abs_diff(expected) < 9, "{ticks} {expected}");
            *SYNCED.lock().unwrap() += took;
            let began = Instant::now();
            drop(fs::read(dir.join("file")));
            assert!(began.elapsed() < SECOND / 10);
        },
    );
    let took = *SYNCED.lock().unwrap();
    assert!((80..120).contains(&took.as_secs()), "{took:?}");
}

/// Each form of read has the seed's bytes, and other devices have their own.
#[test]
fn devices_of_chance_are_the_seeds() {
    fn asked() -> Vec<u8> {
        use std::os::fd::AsRawFd;

        let mut all = Vec::new();
        for name in ["/dev/urandom", "/dev/random"] {
            let mut file = File::open(name).unwrap();
            let (mut one, mut two, mut three) = ([0; 40], [0; 7], [0; 9]);
            file.read_exact(&mut one).unwrap();
            let mut parts = [
                io::IoSliceMut::new(&mut two),
                io::IoSliceMut::new(&mut three),
            ];
            assert_eq!(file.read_vectored(&mut parts).unwrap(), 16);
            all.extend([&one[..], &two, &three].concat());
            file.read_exact_at(&mut three, 5).unwrap();
            all.extend(three);
            // SAFETY: room for as many bytes.
            let got = unsafe { libc::read(file.as_raw_fd(), two.as_mut_ptr().cast(), 7) };
            assert_eq!(got, 7);
            all.extend(two);
        }
        let mut zeros = [1; 9];
        File::open("/dev/zero")
            .unwrap()
            .read_exact(&mut zeros)
            .unwrap();
        assert_eq!(zeros, [0; 9]);
        all
    }
    let run = |seed| {
        let (send, receive) = std::sync::mpsc::channel();
        Sim::new(seed)
            .client("one", move || send.send(asked()).unwrap())
            .run();
        receive.recv().unwrap()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
    let all = run(3);
    assert!(all.iter().filter(|byte| **byte == 0).count() < 9, "{all:?}");
    assert_ne!(asked(), asked(), "outside it is the kernel's");
}
