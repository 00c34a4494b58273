//! The table of what an unwind meets in a function (its LSDA).

/// What an unwind meets in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meets {
    /// It goes on, perhaps after dropping something.
    Nothing,
    Catch,
    /// What runs here drops something for an unwind: a second one aborts.
    Cleanup,
    Abort,
}

/// What a function's table says.
#[derive(Clone, Copy)]
pub(super) struct CallTable {
    /// Of the code that runs. `None`: of that nothing unwinds.
    pub(super) here: Option<Meets>,
    /// Of all its code: whether any of that catches, or lets pass.
    pub(super) whole: Meets,
}

impl CallTable {
    /// For the code at `at`, as seen from the function's beginning.
    ///
    /// # Safety
    ///
    /// - `table` is a function's LSDA.
    pub(super) unsafe fn read(table: *const u8, at: usize) -> Self {
        const OMITTED: u8 = 0xff;
        let mut reader = TableReader(table);
        // SAFETY: forwarded.
        unsafe {
            // Landing pads that are counted from elsewhere are still pads, or none.
            let base = reader.byte();
            if base != OMITTED {
                reader.encoded(base);
            }
            if reader.byte() != OMITTED {
                reader.unsigned();
            }
            let encoding = reader.byte();
            let len = reader.unsigned();
            let actions = reader.0.wrapping_add(len);
            let (mut found, mut has_way_out, mut catches) = (None, false, false);
            while reader.0 < actions {
                let [start, len, pad] = [(); 3].map(|()| reader.encoded(encoding));
                let action = reader.unsigned();
                let first = (pad != 0).then(|| what_first(actions, action));
                has_way_out |= first.is_none();
                catches |= first.is_some_and(|first| first > 0);
                if (start..start.wrapping_add(len)).contains(&at) {
                    found = Some(first);
                }
            }
            let here = found.map(|first| match first {
                None => Meets::Nothing,
                Some(1..) => Meets::Catch,
                Some(0) if has_way_out => Meets::Nothing,
                Some(0) => Meets::Abort,
                Some(_) if has_way_out => Meets::Cleanup,
                Some(_) => Meets::Abort,
            });
            let whole = match (catches, has_way_out) {
                (true, _) => Meets::Catch,
                (false, true) => Meets::Nothing,
                (false, false) => Meets::Abort,
            };
            Self { here, whole }
        }
    }
}

/// The first of a landing pad's actions: 0 to drop something, above to catch, below to
/// let nothing pass.
///
/// # Safety
///
/// - `actions` is the table of a function's actions, `action` one of its landing pad's.
unsafe fn what_first(actions: *const u8, action: usize) -> isize {
    match action {
        0 => 0,
        // SAFETY: forwarded.
        _ => unsafe { TableReader(actions.wrapping_add(action - 1)).signed() },
    }
}

/// Reads what compilers write.
struct TableReader(*const u8);

impl TableReader {
    /// # Safety
    ///
    /// - There is one, for this and all below.
    unsafe fn byte(&mut self) -> u8 {
        // SAFETY: the caller's promise.
        let byte = unsafe { self.0.read() };
        self.0 = self.0.wrapping_add(1);
        byte
    }

    /// A LEB128 number, its bits, and the last byte.
    unsafe fn leb(&mut self) -> (usize, u32, u8) {
        let (mut value, mut bits) = (0, 0);
        loop {
            // SAFETY: the caller's promise.
            let byte = unsafe { self.byte() };
            if bits < usize::BITS {
                value |= usize::from(byte & 0x7f) << bits;
            }
            bits += 7;
            if byte & 0x80 == 0 {
                return (value, bits, byte);
            }
        }
    }

    unsafe fn unsigned(&mut self) -> usize {
        // SAFETY: the caller's promise.
        unsafe { self.leb() }.0
    }

    unsafe fn signed(&mut self) -> isize {
        // SAFETY: the caller's promise.
        let (value, bits, last) = unsafe { self.leb() };
        let negative = last & 0x40 != 0 && bits < usize::BITS;
        (value | if negative { usize::MAX << bits } else { 0 }) as isize
    }

    /// A number in the form that the low four bits say; an offset, so that the others,
    /// which say from where, do not matter.
    unsafe fn encoded(&mut self, encoding: u8) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            match encoding & 0x0f {
                0x01 => self.unsigned(),
                0x09 => self.signed() as usize,
                0x02 | 0x0a => self.little(2),
                0x03 | 0x0b => self.little(4),
                _ => self.little(8),
            }
        }
    }

    /// So many bytes, the lowest first, as our targets have them.
    unsafe fn little(&mut self, len: usize) -> usize {
        (0..len).fold(0, |value, i| {
            // SAFETY: the caller's promise.
            let byte = unsafe { self.byte() };
            value | usize::from(byte) << (8 * i)
        })
    }
}
