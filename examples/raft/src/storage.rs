//! Storage: a node's files, and what is found in them after a crash.
//!
//! `log` is only ever appended to: each record is a vote or an entry, with its length and
//! checksum, and an entry takes the place of all from its index on. So a crash can spoil
//! nothing but the end, which nobody has been told of; it is cut off. `snapshot` is
//! replaced as a whole, and so is `log` after it, to get shorter.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Bugs;
use crate::log::{Entry, Log};
use crate::machine::Machine;

/// What a record's bytes stand behind: their number and checksum.
const HEAD: usize = 8;

#[derive(Serialize, Deserialize)]
enum Record {
    Vote(Vote),
    Entry(Entry),
}

/// The term, and whom this node has voted for in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The latest that this node has heard of.
    pub term: u64,
    /// A place in `members`.
    pub vote: Option<usize>,
}

/// The machine as the entries up to one made it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last entry that is in it.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// What they made.
    pub machine: Machine,
}

impl Snapshot {
    /// As it is in the file, and on its way to peers.
    pub fn encode(&self) -> Vec<u8> {
        record(self)
    }

    /// Reads it again; `None`: it is spoilt.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let body = checked(bytes)?;
        postcard::from_bytes(body).ok()
    }
}

/// What was found in a node's files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The last vote.
    pub vote: Vote,
    /// The last snapshot.
    pub snapshot: Snapshot,
    /// The entries after it.
    pub log: Log,
}

/// A node's files.
pub struct Storage {
    dir: PathBuf,
    log: File,
    bugs: Bugs,
    /// So much of the log outlasts a crash.
    pub(crate) synced: u64,
}

impl Storage {
    /// Opens the files in `dir`, which is made if need be.
    pub fn open(dir: &Path, bugs: Bugs) -> io::Result<(Self, Saved)> {
        fs::create_dir_all(dir)?;
        let mut saved = Saved::default();
        if let Some(bytes) = read(&dir.join("snapshot"))? {
            let spoilt = || io::Error::new(ErrorKind::InvalidData, "the snapshot is spoilt");
            saved.snapshot = Snapshot::decode(&bytes).ok_or_else(spoilt)?;
        }
        let bytes = read(&dir.join("log"))?;
        if bytes.is_none() {
            replace(dir, "log", &[])?;
        }
        let bytes = bytes.unwrap_or_default();
        let (entries, length) = replay(&bytes, &mut saved.vote);
        let log = OpenOptions::new().append(true).open(dir.join("log"))?;
        if length < bytes.len() {
            log.set_len(length as u64)?;
            log.sync_all()?;
        }
        let mut storage = Self {
            dir: dir.to_owned(),
            log,
            bugs,
            synced: length as u64,
        };
        let (index, term) = (saved.snapshot.index, saved.snapshot.term);
        let first = entries.first().map_or(index + 1, |entry| entry.index);
        if first > index + 1 {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "entries are missing",
            ));
        }
        saved.log = Log::after(first - 1, if first > index { term } else { 0 });
        entries.into_iter().for_each(|entry| saved.log.put(entry));
        if first <= index {
            // The node ended between the replacements of the two files.
            saved.log.compact(index, term);
            storage.rewrite(saved.vote, saved.log.from(index + 1))?;
        }
        Ok((storage, saved))
    }

    /// Writes a vote down.
    pub fn save_vote(&mut self, vote: Vote) -> io::Result<()> {
        if self.bugs.has(Bugs::TERM_NOT_SAVED) {
            return Ok(());
        }
        self.log.write_all(&record(&Record::Vote(vote)))?;
        if self.bugs.has(Bugs::VOTE_NOT_SYNCED) {
            return Ok(());
        }
        self.sync()
    }

    /// Writes entries down. Each takes the place of all from its index on.
    pub fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let records = entries.iter().cloned().map(Record::Entry);
        let bytes: Vec<_> = records.flat_map(|entry| record(&entry)).collect();
        self.log.write_all(&bytes)?;
        if self.bugs.has(Bugs::APPEND_NOT_SYNCED) {
            return Ok(());
        }
        self.sync()
    }

    /// Writes an encoded snapshot down, and a log of what it does not stand for.
    pub fn install(&mut self, snapshot: &[u8], vote: Vote, rest: &[Entry]) -> io::Result<()> {
        replace(&self.dir, "snapshot", snapshot)?;
        self.rewrite(vote, rest)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.log.sync_data()?;
        self.synced = self.log.metadata()?.len();
        Ok(())
    }

    fn rewrite(&mut self, vote: Vote, entries: &[Entry]) -> io::Result<()> {
        let records = entries.iter().cloned().map(Record::Entry);
        let records = [Record::Vote(vote)].into_iter().chain(records);
        let bytes: Vec<_> = records.flat_map(|one| record(&one)).collect();
        replace(&self.dir, "log", &bytes)?;
        self.log = OpenOptions::new().append(true).open(self.dir.join("log"))?;
        self.synced = bytes.len() as u64;
        Ok(())
    }
}

/// The records that are whole: their entries, and how many bytes they have.
fn replay(bytes: &[u8], vote: &mut Vote) -> (Vec<Entry>, usize) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut length = 0;
    while let Some(body) = checked(&bytes[length..]) {
        match postcard::from_bytes(body) {
            Ok(Record::Vote(later)) => *vote = later,
            Ok(Record::Entry(entry)) => {
                while entries.last().is_some_and(|last| last.index >= entry.index) {
                    entries.pop();
                }
                entries.push(entry);
            }
            Err(_) => break,
        }
        length += HEAD + body.len();
    }
    (entries, length)
}

fn record(what: &impl Serialize) -> Vec<u8> {
    let body = postcard::to_stdvec(what).expect("it can be written");
    let length = u32::try_from(body.len()).expect("it is below 4 GiB");
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// The body of the first record, if it is whole.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(four.try_into().expect("four bytes")))
    };
    let length = number(0)? as usize;
    let body = bytes.get(HEAD..HEAD.checked_add(length)?)?;
    (crc32fast::hash(body) == number(4)?).then_some(body)
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

/// Puts a file in another's place: after a crash it is the one or the other, whole.
fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Command;

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index,
            term,
            command: Command::Open,
        }
    }

    fn open(dir: &Path) -> (Storage, Saved) {
        Storage::open(dir, Bugs::NONE).unwrap()
    }

    /// A log with votes and entries, one of them replaced; and how long it is after each.
    fn written(dir: &Path) -> Vec<u64> {
        let (mut storage, saved) = open(dir);
        assert_eq!(saved, Saved::default());
        let mut lengths = Vec::new();
        let mut note = |storage: &Storage| lengths.push(storage.log.metadata().unwrap().len());
        note(&storage);
        let vote = |term, vote| Vote { term, vote };
        storage.save_vote(vote(1, Some(2))).unwrap();
        note(&storage);
        for one in [entry(1, 1), entry(2, 1), entry(3, 1)] {
            storage.append(&[one]).unwrap();
            note(&storage);
        }
        storage.save_vote(vote(2, None)).unwrap();
        note(&storage);
        storage.append(&[entry(2, 2)]).unwrap();
        note(&storage);
        lengths
    }

    /// What is there after so many of the writes of [`written`].
    fn expected(writes: usize) -> Saved {
        let mut saved = Saved::default();
        if writes >= 1 {
            saved.vote = Vote {
                term: 1,
                vote: Some(2),
            };
        }
        (1..=3)
            .take(writes.saturating_sub(1))
            .for_each(|index| saved.log.put(entry(index, 1)));
        if writes >= 5 {
            saved.vote = Vote {
                term: 2,
                vote: None,
            };
        }
        if writes >= 6 {
            saved.log.put(entry(2, 2));
        }
        saved
    }

    #[test]
    fn a_log_that_ends_anywhere_is_read_up_to_its_last_whole_record() {
        let dir = tempfile::tempdir().unwrap();
        let lengths = written(dir.path());
        let path = dir.path().join("log");
        let whole = fs::read(&path).unwrap();
        for end in 0..=whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let writes = lengths
                .iter()
                .rposition(|&length| length <= end as u64)
                .unwrap();
            assert_eq!(open(dir.path()).1, expected(writes), "cut at {end}");
            let left = fs::metadata(&path).unwrap().len();
            assert_eq!(left, lengths[writes], "cut at {end}");
        }
    }

    #[test]
    fn a_spoilt_end_is_cut_off_and_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let lengths = written(dir.path());
        let path = dir.path().join("log");
        let whole = fs::read(&path).unwrap();
        let last = lengths[lengths.len() - 2] as usize;
        for at in last..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            // Blocks that were never written, as some file systems leave them.
            bytes.extend([0; 100]);
            fs::write(&path, &bytes).unwrap();
            let (mut storage, saved) = open(dir.path());
            assert_eq!(saved, expected(5), "spoilt at {at}");
            storage.append(&[entry(4, 2)]).unwrap();
            let mut longer = expected(5);
            longer.log.put(entry(4, 2));
            assert_eq!(open(dir.path()).1, longer);
        }
    }

    #[test]
    fn a_snapshot_takes_the_place_of_entries_whenever_the_node_ends() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        let mut snapshot = Snapshot {
            index: 1,
            term: 1,
            machine: Machine::default(),
        };
        snapshot.machine.apply(1, &Command::Open);
        let mut expected = expected(6);
        expected.log.compact(1, 1);
        expected.snapshot = snapshot.clone();

        // It ends between the two files.
        replace(dir.path(), "snapshot", &snapshot.encode()).unwrap();
        let (mut storage, saved) = open(dir.path());
        assert_eq!(saved, expected);
        assert_eq!(open(dir.path()).1, expected);

        // A leader's, of entries that this node has otherwise or not at all.
        for (index, term) in [(2, 3), (9, 3)] {
            (snapshot.index, snapshot.term) = (index, term);
            expected.snapshot = snapshot.clone();
            expected.log = Log::after(index, term);
            replace(dir.path(), "snapshot", &snapshot.encode()).unwrap();
            (storage, _) = open(dir.path());
            assert_eq!(open(dir.path()).1, expected);
        }
        storage.append(&[entry(10, 3)]).unwrap();
        expected.log.put(entry(10, 3));
        assert_eq!(open(dir.path()).1, expected);

        storage
            .install(&snapshot.encode(), expected.vote, &[])
            .unwrap();
        storage.append(&[entry(10, 4)]).unwrap();
        expected.log.put(entry(10, 4));
        assert_eq!(open(dir.path()).1, expected);
    }

    #[test]
    fn a_spoilt_snapshot_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Snapshot::default().encode();
        *bytes.last_mut().unwrap() ^= 1;
        replace(dir.path(), "snapshot", &bytes).unwrap();
        let error = Storage::open(dir.path(), Bugs::NONE).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}
