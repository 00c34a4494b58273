//! JSON for programs: one object, on one line.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Counts(BTreeMap<String, u64>),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        if number.is_finite() {
            Self::Number(number)
        } else {
            Self::Null
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number as f64)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as f64)
    }
}

impl From<&BTreeMap<String, u64>> for Value {
    fn from(counts: &BTreeMap<String, u64>) -> Self {
        Self::Counts(counts.clone())
    }
}

/// What is unknown is null.
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Bool(value) => value.fmt(out),
            Self::Number(number) => number.fmt(out),
            Self::Counts(counts) => object(out, counts.iter()),
        }
    }
}

/// Values by name, in the order in which they are printed.
pub(crate) struct Object<const N: usize>(pub(crate) [(&'static str, Value); N]);

impl<const N: usize> Index<&str> for Object<N> {
    type Output = Value;

    fn index(&self, wanted: &str) -> &Value {
        let found = self.0.iter().find(|(name, _)| *name == wanted);
        &found.expect("a name of the object").1
    }
}

impl<const N: usize> fmt::Display for Object<N> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        object(out, self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn object(
    out: &mut fmt::Formatter<'_>,
    members: impl Iterator<Item = (impl AsRef<str>, impl fmt::Display)>,
) -> fmt::Result {
    out.write_str("{")?;
    for (i, (name, value)) in members.enumerate() {
        let comma = if i > 0 { "," } else { "" };
        write!(out, "{comma}\"{}\":{value}", escaped(name.as_ref()))?;
    }
    out.write_str("}")
}

/// The inside of a JSON string.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_json() {
        let counts = BTreeMap::from([("a \"quoted\"\nline\\".to_owned(), 2), ("é".to_owned(), 3)]);
        let object = Object([
            ("yes", true.into()),
            ("whole", 12_000_000_000_u64.into()),
            ("part", 0.25.into()),
            ("infinite", f64::INFINITY.into()),
            ("unknown", None::<u64>.into()),
            ("counts", (&counts).into()),
        ]);
        assert_eq!(
            object.to_string(),
            r#"{"yes":true,"whole":12000000000,"part":0.25,"infinite":null,"unknown":null,"counts":{"a \"quoted\"\u000aline\\":2,"é":3}}"#
        );
        assert_eq!(object["part"], Value::Number(0.25));
    }
}
