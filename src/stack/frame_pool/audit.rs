//! The allocation audit of builds with debug assertions: finds a block that is
//! freed twice or with a wrong length, and a write to a free one.

/// What a freed block is filled with.
pub(super) const FREED: u8 = 0xdf;

/// The class (plus one) of the block that begins at each granule, else 0.
#[derive(Default)]
pub(super) struct Audit(Vec<u8>);

impl Audit {
    pub(super) fn allocated(&mut self, at: u32, class: usize) {
        let at = at as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        assert_eq!(self.0[at], 0, "granule {at} was handed out twice");
        self.0[at] = tag(class);
    }

    pub(super) fn freed(&mut self, at: u32, class: usize) {
        let live = std::mem::take(&mut self.0[at as usize]);
        assert_eq!(
            live,
            tag(class),
            "granule {at}: not a live block of class {class}"
        );
    }
}

fn tag(class: usize) -> u8 {
    u8::try_from(class.min(254) + 1).expect("at most 255")
}

/// # Safety
///
/// - `block` is a free block of `len` bytes.
pub(super) unsafe fn check_fill(block: *const u8, len: usize) {
    // SAFETY: the caller's free block, all written when it was freed.
    let rest = unsafe { std::slice::from_raw_parts(block.add(4), len - 4) };
    let touched = rest.iter().position(|&byte| byte != FREED);
    assert_eq!(
        touched, None,
        "a saved frame at {block:p} was written after it was freed"
    );
}
