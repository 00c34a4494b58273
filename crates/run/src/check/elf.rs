//! What is read of an ELF file: its dynamic linker, and the names of its sections.

/// A program for x86_64, as it lies in its file.
pub(crate) struct Elf<'a>(&'a [u8]);

const X86_64: u64 = 62;
const PT_INTERP: u64 = 3;

impl<'a> Elf<'a> {
    pub(crate) fn parse(file: &'a [u8]) -> Option<Self> {
        let this = Self(file);
        // 64 bits, the lower byte first.
        let right = file.starts_with(b"\x7fELF\x02\x01") && this.number(18, 2)? == X86_64;
        right.then_some(this)
    }

    /// The program's interpreter: its dynamic linker's path.
    pub(crate) fn linker(&self) -> Option<&'a [u8]> {
        let (at, each, count) = (
            self.number(32, 8)?,
            self.number(54, 2)?,
            self.number(56, 2)?,
        );
        (0..count)
            .map(|i| at.saturating_add(i * each))
            .find(|&header| self.number(header, 4) == Some(PT_INTERP))
            .and_then(|header| self.bytes(self.field(header, 8)?, self.field(header, 32)?))
            .map(|path| path.strip_suffix(b"\0").unwrap_or(path))
    }

    pub(crate) fn has_section(&self, name: &[u8]) -> bool {
        let all = || {
            let (at, each) = (self.number(40, 8)?, self.number(58, 2)?);
            let (count, names) = (self.number(60, 2)?, self.number(62, 2)?);
            let header = |i: u64| at.saturating_add(i * each);
            let strings = self.field(header(names), 24)?;
            let is_it = |i| {
                let at = strings.checked_add(self.number(header(i), 4)?)?;
                let found = self.bytes(at, name.len() as u64 + 1)?;
                (found.strip_suffix(b"\0") == Some(name)).then_some(())
            };
            (0..count).find_map(is_it)
        };
        all().is_some()
    }

    fn bytes(&self, at: u64, len: u64) -> Option<&'a [u8]> {
        let (at, len) = (usize::try_from(at).ok()?, usize::try_from(len).ok()?);
        self.0.get(at..at.checked_add(len)?)
    }

    /// A word of a header.
    fn field(&self, header: u64, at: u64) -> Option<u64> {
        self.number(header.checked_add(at)?, 8)
    }

    fn number(&self, at: u64, len: u64) -> Option<u64> {
        let mut word = [0; 8];
        word[..len as usize].copy_from_slice(self.bytes(at, len)?);
        Some(u64::from_le_bytes(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_read() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        let elf = Elf::parse(&file).unwrap();
        assert!(elf.linker().unwrap().ends_with(b"ld-linux-x86-64.so.2"));
        assert!(elf.has_section(b".text") && !elf.has_section(b".go.buildinfo"));
    }

    #[test]
    fn what_is_cut_off_or_wrong_is_no_program() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        assert!(Elf::parse(b"#!/bin/sh").is_none());
        for len in [0, 4, 17, 40, 63, 64, 100, 1000] {
            if let Some(elf) = Elf::parse(&file[..len]) {
                let _ = (elf.linker(), elf.has_section(b".text"));
            }
        }
        let mut bent = file[..4096].to_vec();
        for at in 32..64 {
            bent[at] = 0xff;
            let elf = Elf::parse(&bent).unwrap();
            let _ = (elf.linker(), elf.has_section(b".text"));
        }
    }
}
