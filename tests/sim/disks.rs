//! Disks of simulated machines: what a crash leaves of what was not synced.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crore::sim::{self, Sim};

/// A directory that goes with the test.
struct Root(PathBuf);

impl Root {
    fn new(test: &str) -> Self {
        let root = std::env::temp_dir().join(format!("crore-{test}-{}", std::process::id()));
        fs::create_dir_all(root.join("one")).unwrap();
        Self(root)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Lets a node do something below its directory, crashes it, and says what `found` finds
/// there: of many seeds each thing once.
fn after_crashes(test: &str, act: fn(&Path), found: impl Fn(&Path) -> String) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for seed in 0..60 {
        let root = Root::new(test);
        let dir = root.0.join("one");
        let theirs = dir.clone();
        Sim::new(seed)
            .disks(&root.0)
            .node("one", move || {
                act(&theirs);
                thread::sleep(Duration::from_secs(100));
            })
            .client("test", || {
                thread::sleep(Duration::from_secs(1));
                sim::crash("one");
            })
            .run();
        all.insert(found(&dir));
        let left = fs::read_dir(&root.0).unwrap().count();
        assert_eq!(left, 1, "names of lost files stay");
    }
    all
}

fn text(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or("none".into())
}

fn sync_dir(dir: &Path) {
    File::open(dir).unwrap().sync_all().unwrap();
}

fn some(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|one| one.to_string()).collect()
}

#[test]
fn what_is_synced_stays_and_what_is_not_may_be_lost() {
    let all = after_crashes(
        "synced",
        |dir| {
            let mut file = File::create(dir.join("log")).unwrap();
            file.write_all(b"one ").unwrap();
            file.sync_all().unwrap();
            file.write_all(b"two ").unwrap();
            file.write_all(b"three").unwrap();
        },
        |dir| text(dir, "log"),
    );
    let whole = some(&["one ", "one two ", "one two three"]);
    assert!(whole.is_subset(&all), "{all:?}");
    // A write may be torn, but none that follows it is there then.
    assert!(all.iter().all(|text| text.starts_with("one ")), "{all:?}");
    assert!(all.iter().all(|text| "one two three".len() >= text.len()));
}

#[test]
fn a_new_file_is_there_when_it_or_its_directory_is_synced() {
    let all = after_crashes(
        "new",
        |dir| drop(File::create(dir.join("log"))),
        |dir| text(dir, "log"),
    );
    assert_eq!(all, some(&["", "none"]));
    let synced = |dir: &Path| {
        drop(File::create(dir.join("log")));
        sync_dir(dir);
    };
    let all = after_crashes("new-dir", synced, |dir| text(dir, "log"));
    assert_eq!(all, some(&[""]));
}

#[test]
fn a_rename_is_whole_and_there_when_its_directory_is_synced() {
    fn replace(dir: &Path) {
        fs::write(dir.join("vote"), "old").unwrap();
        File::open(dir.join("vote")).unwrap().sync_all().unwrap();
        let mut file = File::create(dir.join("vote.new")).unwrap();
        file.write_all(b"new").unwrap();
        file.sync_all().unwrap();
        fs::rename(dir.join("vote.new"), dir.join("vote")).unwrap();
    }
    let all = after_crashes("rename", replace, |dir| text(dir, "vote"));
    assert_eq!(all, some(&["new", "old"]));
    let synced = |dir: &Path| {
        replace(dir);
        sync_dir(dir);
    };
    let all = after_crashes("rename-dir", synced, |dir| text(dir, "vote"));
    assert_eq!(all, some(&["new"]));
}

#[test]
fn what_is_removed_or_cut_may_come_back() {
    fn removes(dir: &Path) {
        for name in ["removed", "cut"] {
            fs::write(dir.join(name), "text").unwrap();
            File::open(dir.join(name)).unwrap().sync_all().unwrap();
        }
        fs::remove_file(dir.join("removed")).unwrap();
        drop(File::create(dir.join("cut")).unwrap());
    }
    let found = |dir: &Path| text(dir, "removed") + " " + &text(dir, "cut");
    let all = after_crashes("removed", removes, found);
    let expected = some(&["text text", "none text", "none "]);
    assert!(expected.is_subset(&all), "{all:?}");
    assert!(
        !all.contains("text "),
        "the first change is the first on the disk: {all:?}"
    );
}

/// Sector by sector, at the place of a write in the middle.
#[test]
fn a_write_may_be_torn_between_sectors() {
    let all = after_crashes(
        "torn",
        |dir| {
            let mut options = OpenOptions::new();
            let options = options.create(true).truncate(true).write(true);
            let file = options.open(dir.join("pages")).unwrap();
            file.write_all_at(&[b'a'; 4096], 0).unwrap();
            file.sync_data().unwrap();
            file.write_all_at(&[b'b'; 2048], 1024).unwrap();
        },
        |dir| {
            let text = text(dir, "pages");
            assert_eq!(text.len(), 4096);
            let sectors = text.as_bytes().chunks(512);
            let is_one = |sector: &[u8]| sector.iter().all(|byte| *byte == sector[0]);
            sectors
                .map(|sector| {
                    assert!(is_one(sector), "torn inside a sector");
                    char::from(sector[0])
                })
                .collect()
        },
    );
    assert!(
        all.contains("aaaaaaaa") && all.contains("aabbbbaa"),
        "{all:?}"
    );
    assert!(all.len() > 4, "{all:?}");
    let outside = |text: &String| text.starts_with("aa") && text.ends_with("aa");
    assert!(all.iter().all(outside), "{all:?}");
}

#[test]
fn the_end_of_a_simulation_is_no_crash() {
    let root = Root::new("end");
    let dir = root.0.join("one");
    let theirs = dir.clone();
    Sim::new(1)
        .disks(&root.0)
        .client("one", move || {
            fs::write(theirs.join("file"), "text").unwrap()
        })
        .run();
    assert_eq!(text(&dir, "file"), "text");
}

/// libc's own names for it.
#[test]
fn names_are_changed_by_libcs_calls() {
    let root = Root::new("names");
    let dir = root.0.join("one");
    let path = |name: &str| std::ffi::CString::new(dir.join(name).to_str().unwrap()).unwrap();
    let (one, two) = (path("1"), path("2"));
    Sim::new(1)
        .disks(&root.0)
        .client("one", move || {
            fs::write(one.to_str().unwrap(), "text").unwrap();
            // SAFETY: paths.
            unsafe {
                assert_eq!(libc::rename(one.as_ptr(), two.as_ptr()), 0);
                assert_eq!(libc::rename(one.as_ptr(), two.as_ptr()), -1);
                let here = libc::AT_FDCWD;
                assert_eq!(libc::renameat(here, two.as_ptr(), here, one.as_ptr()), 0);
                assert_eq!(libc::unlink(two.as_ptr()), -1);
                assert_eq!(libc::unlinkat(here, one.as_ptr(), 0), 0);
            }
        })
        .run();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn a_cut_is_whole_and_what_is_synced_by_other_means_stays() {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    let all = after_crashes(
        "cut",
        |dir| {
            let mut options = OpenOptions::new();
            let options = options.create(true).truncate(true).write(true);
            let mut at_once = options.clone();
            let at_once = at_once.custom_flags(libc::O_DSYNC);
            let mut file = at_once.open(dir.join("at-once")).unwrap();
            file.write_all(b"text").unwrap();
            fs::write(dir.join("file"), [b'x'; 4096]).unwrap();
            let file = options
                .clone()
                .truncate(false)
                .open(dir.join("file"))
                .unwrap();
            // SAFETY: an open descriptor.
            assert_eq!(unsafe { libc::syncfs(file.as_raw_fd()) }, 0);
            file.set_len(0).unwrap();
        },
        |dir| {
            assert_eq!(text(dir, "at-once"), "text");
            let text = text(dir, "file");
            assert!(text.bytes().all(|byte| byte == b'x'), "half a cut");
            text.len().to_string()
        },
    );
    assert_eq!(all, some(&["0", "4096"]));
}

/// The machine's paths may lead there by another name.
#[test]
fn a_root_may_have_another_name() {
    let root = Root::new("linked");
    let link = root.0.with_extension("link");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&root.0, &link).unwrap();
    let lost = (0..30).any(|seed| {
        let file = link.join("one").join("file");
        let _ = fs::remove_file(&file);
        let theirs = file.clone();
        Sim::new(seed)
            .disks(&root.0)
            .node("one", move || {
                fs::write(&theirs, "text").unwrap();
                thread::sleep(Duration::from_secs(100));
            })
            .client("test", || {
                thread::sleep(Duration::from_secs(1));
                sim::crash("one");
            })
            .run();
        !file.exists()
    });
    fs::remove_file(&link).unwrap();
    assert!(lost, "nothing was noticed");
}
