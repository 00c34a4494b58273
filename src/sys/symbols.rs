//! Return addresses in words.

use std::fmt;

/// A backtrace, from return addresses that were gathered before. What was read for it
/// is given back: of a large program these are tens of megabytes.
pub(crate) struct Symbols<'a>(pub(crate) &'a [usize]);

impl fmt::Display for Symbols<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, &address) in self.0.iter().enumerate() {
            if !frame(f, number, address)? {
                writeln!(f, "{number:4}: {address:#x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(feature = "symbols")]
impl Drop for Symbols<'_> {
    fn drop(&mut self) {
        forget();
    }
}

/// The functions that an address lies in, those that were inlined there first; in digits if
/// they have no names.
pub(crate) fn names(address: usize) -> Vec<String> {
    let mut names = Vec::new();
    #[cfg(feature = "symbols")]
    backtrace::resolve(std::ptr::without_provenance_mut(address), |symbol| {
        names.extend(symbol.name().map(|name| format!("{name:#}")));
    });
    if names.is_empty() {
        names.push(format!("{address:#x}"));
    }
    names
}

/// Gives back what was read for names.
pub(crate) fn forget() {
    #[cfg(feature = "symbols")]
    backtrace::clear_symbol_cache();
}

/// Writes the function that an address lies in, and those that were inlined there;
/// whether it has a name.
#[cfg(feature = "symbols")]
fn frame(f: &mut fmt::Formatter<'_>, number: usize, address: usize) -> Result<bool, fmt::Error> {
    let (mut found, mut result) = (false, Ok(()));
    backtrace::resolve(std::ptr::without_provenance_mut(address), |symbol| {
        let label = if found {
            "    ".into()
        } else {
            format!("{number:4}")
        };
        found = true;
        result = result.and_then(|()| line(f, &label, symbol));
    });
    result.map(|()| found)
}

#[cfg(not(feature = "symbols"))]
fn frame(_: &mut fmt::Formatter<'_>, _: usize, _: usize) -> Result<bool, fmt::Error> {
    Ok(false)
}

#[cfg(feature = "symbols")]
fn line(f: &mut fmt::Formatter<'_>, label: &str, symbol: &backtrace::Symbol) -> fmt::Result {
    match symbol.name() {
        Some(name) => writeln!(f, "{label}: {name:#}")?,
        None => writeln!(f, "{label}: (no name)")?,
    }
    if let (Some(file), Some(line)) = (symbol.filename(), symbol.lineno()) {
        writeln!(f, "             at {}:{line}", file.display())?;
    }
    Ok(())
}
