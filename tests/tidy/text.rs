//! Rust text, as far as the checks need it: comments and literals blanked out,
//! words, the heads of paths, items under `cfg(test)`.

use std::ops::Range;

/// The names that directly follow a path's first segment: one after `::`, or
/// each head in `::{…}`.
pub(crate) fn first_names(rest: &str) -> Vec<&str> {
    let Some(rest) = rest.strip_prefix("::") else {
        return Vec::new();
    };
    let Some(group) = rest.trim_start().strip_prefix('{') else {
        return words(rest)
            .next()
            .map(|(_, name)| name)
            .into_iter()
            .collect();
    };
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.extend(words(&group[start..i]).next().map(|(_, name)| name));
                start = i + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

/// Identifiers and keywords with their places.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + code[from..].find(part)?;
        let end = code[start..]
            .find(|c| !part(c))
            .map_or(code.len(), |len| start + len);
        from = end;
        Some((start, &code[start..end]))
    })
}

/// The ranges of items under a `#[cfg(…test…)]`; all of a file of tests.
pub(crate) fn test_items(path: &str, code: &str) -> Vec<Range<usize>> {
    if path.ends_with("tests.rs") || path.contains("tests/") {
        return std::iter::once(0..code.len()).collect();
    }
    let mut items = Vec::new();
    for (start, _) in code.match_indices("#[cfg(") {
        let attribute = start..start + code[start..].find(']').unwrap_or(0);
        let condition = &code[attribute.clone()];
        if words(condition).any(|(_, word)| word == "test") && !condition.contains("not(test)") {
            items.push(start..attribute.end + item_length(&code[attribute.end..]));
        }
    }
    items
}

/// Bytes up to the `;` or the closing brace that ends an item.
pub(crate) fn item_length(code: &str) -> usize {
    let mut depth = 0;
    for (i, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return i,
            '{' => depth += 1,
            '}' if depth <= 1 => return i,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The text with the insides of comments and literals turned to spaces; every
/// byte that stays keeps its place.
pub(crate) fn blank(text: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    let mut at = 0;
    while at < text.len() {
        let end = at + dead_length(text, at);
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole characters are blanked")
}

/// Length of the comment or literal that starts at `at`; 0 if none does.
fn dead_length(text: &str, at: usize) -> usize {
    let rest = &text.as_bytes()[at..];
    let until = |end: &str| text[at..].find(end).map_or(rest.len(), |i| i + end.len());
    match rest {
        [b'/', b'/', ..] => until("\n"),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, b'"'),
        [b'r', b'"' | b'#', ..] if !continues_word(text, at) => {
            let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            match rest.get(1 + hashes) {
                Some(b'"') => {
                    let close = format!("\"{}", "#".repeat(hashes));
                    let body = 2 + hashes;
                    text[at + body..]
                        .find(&close)
                        .map_or(rest.len(), |i| body + i + close.len())
                }
                _ => 0,
            }
        }
        // A character, not a lifetime: 'x' or '\…'.
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        [b'\'', ..] => {
            let width = text[at + 1..].chars().next().map_or(0, char::len_utf8);
            if rest.get(1 + width) == Some(&b'\'') {
                2 + width
            } else {
                0
            }
        }
        // Other multi-byte characters stand only in comments and literals.
        [byte, ..] if !byte.is_ascii() => text[at..].chars().next().map_or(1, char::len_utf8),
        _ => 0,
    }
}

/// Whether the byte before belongs to an identifier (other than the `b` and
/// `c` of byte and C strings).
fn continues_word(text: &str, at: usize) -> bool {
    let before = text[..at].trim_end_matches(['b', 'c']);
    before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut i = 1;
    while i < rest.len() && rest[i] != quote {
        i += if rest[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(rest.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        match &rest[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

#[test]
fn only_code_is_searched() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("\"x") y"#, "f(     ) y"),
        ("f(r#\"x\"y\"#) z", "f(        ) z"),
        ("f(br\"\\\") z", "f(b    ) z"),
        ("'\"' a '\\'' b", "    a      b"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("'é' a", "     a"),
        ("var\"x\"", "var   "),
        ("/* open", "       "),
        ("\"open", "     "),
    ] {
        assert_eq!(blank(text), code, "{text}");
    }
}
