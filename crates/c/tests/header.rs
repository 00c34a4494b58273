//! The promise: the header says what the code is. Each declaration is compared with the
//! function of its name, in C's words; the structs and codes as the compiler lays them
//! out; and what the library shows with what the headers declare.
//!
//! (cbindgen would write such a header, but not its comments and macros; and comparing
//! its output with ours needs this parser as well, beside its forty dependencies.)

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Folder, PACKAGE, compiler, run};

/// Functions by name: return type and arguments' types, in C.
type Functions = BTreeMap<String, (String, Vec<String>)>;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(PACKAGE).join(path)).unwrap()
}

fn sources() -> Vec<String> {
    let folders = ["src", "src/co"].map(|folder| Path::new(PACKAGE).join(folder));
    let entries = folders
        .into_iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    files
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

/// A type of Rust's in C's words.
fn in_c(rust: &str) -> String {
    if let Some(to) = rust.strip_prefix("*mut ") {
        return format!("{} *", in_c(to)).replace("* *", "**");
    }
    if let Some(to) = rust.strip_prefix("*const ") {
        return format!("const {} *", in_c(to));
    }
    let known = [
        ("c_int", "int"),
        ("c_char", "char"),
        ("c_void", "void"),
        ("usize", "size_t"),
        ("u32", "uint32_t"),
        ("u64", "uint64_t"),
        ("Option<Entry>", "crore_entry"),
        ("Option<Destructor>", "crore_entry"),
        ("Task", "crore_task"),
        ("RuntimeHandle", "crore_runtime"),
        ("MutexHandle", "crore_mutex"),
        ("CondHandle", "crore_cond"),
        ("Channel", "crore_channel"),
        ("Config", "crore_config"),
        ("Options", "crore_options"),
        ("Metrics", "crore_metrics"),
    ];
    let found = known.iter().find(|(name, _)| *name == rust);
    let (_, c) = found.unwrap_or_else(|| panic!("the type {rust} has no name in C"));
    (*c).to_owned()
}

fn in_rust_files(prefix: &str) -> Functions {
    let mut functions = Functions::new();
    for text in sources() {
        let text = text.replace("extern \"C-unwind\" fn ", "extern \"C\" fn ");
        for part in text.split("extern \"C\" fn ").skip(1) {
            let Some((name, rest)) = part.split_once('(') else {
                continue;
            };
            if !name.starts_with(prefix) {
                continue;
            }
            let (arguments, rest) = rest.split_once(')').unwrap();
            let answer = rest.split('{').next().unwrap().trim();
            let answer = answer.strip_prefix("-> ").map_or("void".into(), in_c);
            let arguments = arguments.split(',').filter_map(|one| one.split_once(": "));
            let arguments = arguments.map(|(_, of)| in_c(of.trim())).collect();
            functions.insert(name.to_owned(), (answer, arguments));
        }
    }
    functions
}

/// The header without comments, in single spaces.
fn plain(header: &str) -> String {
    let mut text = String::new();
    for part in header.split("/*") {
        text += part.split_once("*/").map_or(part, |(_, code)| code);
    }
    let code = text.lines().map(|line| line.split("//").next().unwrap());
    let code = code.filter(|line| !line.trim_start().starts_with('#'));
    let words: Vec<_> = code.flat_map(str::split_whitespace).collect();
    words.join(" ")
}

/// `void **result` is a `void **`.
fn type_of(declared: &str) -> String {
    let of = declared.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
    match of.trim() {
        "" => declared.to_owned(),
        of => of.to_owned(),
    }
}

fn in_header(text: &str, prefix: &str) -> Functions {
    let mut functions = Functions::new();
    for statement in text.split(';') {
        let Some((head, arguments)) = statement.trim().split_once('(') else {
            continue;
        };
        let start = head
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(0, |at| at + 1);
        if !head[start..].starts_with(prefix) || head.contains("typedef") {
            continue;
        }
        let answer = head[..start].rsplit('}').next().unwrap().trim();
        let arguments = arguments.trim_end_matches(')');
        let arguments = arguments
            .split(',')
            .map(str::trim)
            .filter(|one| !["", "void"].contains(one));
        let arguments = arguments.map(type_of).collect();
        functions.insert(head[start..].to_owned(), (answer.to_owned(), arguments));
    }
    functions
}

#[test]
fn declarations_are_the_functions() {
    let header = read("include/crore.h");
    let (declared, defined) = (
        in_header(&plain(&header), "crore_"),
        in_rust_files("crore_"),
    );
    assert!(declared.len() > 40, "{declared:#?}");
    assert_eq!(declared, defined);
}

#[test]
fn a_difference_is_found() {
    let found = in_header(
        &plain("/* ; */ int crore_x(void **a, size_t b); const char *crore_y(void);"),
        "crore_",
    );
    let x = (
        "int".to_owned(),
        vec!["void **".to_owned(), "size_t".to_owned()],
    );
    assert_eq!(found["crore_x"], x);
    assert_eq!(found["crore_y"], ("const char *".to_owned(), vec![]));
}

/// Of errors, threads and units each has to say what the header's beginning does not.
#[test]
fn each_function_has_words_of_its_own() {
    let header = read("include/crore.h");
    let lines: Vec<_> = header.lines().collect();
    let declared = |line: &str| line.contains("crore_") && line.ends_with(");");
    let bare: Vec<_> = lines
        .windows(2)
        .filter(|pair| declared(pair[1]) && !pair[1].starts_with(' ') && !pair[0].ends_with("*/"))
        .collect();
    assert!(bare.is_empty(), "{bare:#?}");
}

/// libco's types are its own: compared are names, numbers of arguments, and answers.
#[test]
fn libcos_declarations_are_the_functions() {
    let header = plain(&read("include/libco/co_routine.h"));
    let header = header.replace("void *(*routine)(void *)", "pfn_co_routine_t routine");
    let header = header.replace("extern \"C\" {", "");
    let opaque = |of: &str| of.starts_with("st") && of.ends_with('*');
    let all: BTreeMap<_, _> = in_header(&header, "co_")
        .into_iter()
        .map(|(name, (answer, arguments))| {
            let answer = if opaque(&answer) {
                "Opaque".into()
            } else {
                answer
            };
            (name, (answer, arguments.len()))
        })
        .collect();
    assert!(all.len() > 20, "{all:?}");
    let mut defined = BTreeMap::new();
    for text in sources() {
        let text = text.replace("extern \"C-unwind\" fn ", "extern \"C\" fn ");
        for part in text.split("extern \"C\" fn co_").skip(1) {
            let (name, rest) = part.split_once('(').unwrap();
            let (arguments, rest) = rest.split_once(')').unwrap();
            let answer = rest.split('{').next().unwrap().trim();
            let answer = match answer.strip_prefix("-> ").unwrap_or("void") {
                "c_int" => "int",
                "*mut c_void" => "void *",
                other => other,
            };
            let count = arguments.matches(": ").count();
            // The others of co_log_err are not looked at.
            let count = count + usize::from(name == "log_err");
            defined.insert(format!("co_{name}"), (answer.to_owned(), count));
        }
    }
    assert_eq!(all, defined);
}

/// The fields of a `repr(C)` struct in our sources; the metrics' are a list.
fn fields(name: &str) -> Vec<String> {
    let all = sources().concat();
    let body = |start: &str, end: &str| {
        let at = all.find(start).unwrap_or_else(|| panic!("no {start}")) + start.len();
        all[at..].split(end).next().unwrap().to_owned()
    };
    if name == "Metrics" {
        let list = body("\nmetrics!(", ");");
        let names = list.split(',').map(|one| one.trim().to_owned());
        let names = names.filter(|one| !one.is_empty());
        return ["size".to_owned()].into_iter().chain(names).collect();
    }
    let body = body(&format!("\npub struct {name} {{"), "\n}");
    let lines = body.lines().filter_map(|line| line.split_once(": "));
    lines
        .map(|(name, _)| name.trim().trim_start_matches("pub(crate) ").to_owned())
        .collect()
}

#[test]
fn structs_and_codes_are_laid_out_alike() {
    let folder = Folder::new("layout");
    let mut c = String::from("#include <crore.h>\n#include <stdio.h>\nint main(void) {\n");
    let mut wanted = String::new();
    // As they are asserted beside them.
    let sizes = [
        ("crore_config", "Config", 56),
        ("crore_options", "Options", 48),
        ("crore_metrics", "Metrics", 104),
    ];
    for (in_c, in_rust, size) in sizes {
        c += &format!("printf(\"{in_c} %zu\\n\", sizeof({in_c}));\n");
        wanted += &format!("{in_c} {size}\n");
        // In C they come in the same order if each offset is more than the last.
        c += "size_t last = 0; (void)last;\n"
            .replace("last", &format!("last_{in_rust}"))
            .as_str();
        for field in fields(in_rust).iter().skip(1) {
            c += &format!(
                "printf(\"{field} %d\\n\", offsetof({in_c}, {field}) > last_{in_rust}); \
                 last_{in_rust} = offsetof({in_c}, {field});\n"
            );
            wanted += &format!("{field} 1\n");
        }
    }
    // As `error.rs` has them.
    let code = sources()
        .into_iter()
        .find(|text| text.contains("enum Code {"))
        .unwrap();
    let code = code
        .split("enum Code {")
        .nth(1)
        .unwrap()
        .split('}')
        .next()
        .unwrap();
    for (at, name) in code
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .enumerate()
    {
        let name = name.trim_end_matches(" = 1");
        let mut upper = String::new();
        for (i, letter) in name.char_indices() {
            if letter.is_uppercase() && i > 0 {
                upper.push('_');
            }
            upper.push(letter.to_ascii_uppercase());
        }
        c += &format!("printf(\"{upper} %d\\n\", CRORE_{upper});\n");
        wanted += &format!("{upper} {}\n", at + 1);
    }
    c += "return 0; }\n";
    let source = folder.path("layout.c");
    fs::write(&source, c).unwrap();
    let program = folder.path("layout");
    run(compiler("cc").arg(&source).arg("-o").arg(&program));
    assert_eq!(run(&mut Command::new(program)), wanted);
}

#[test]
fn only_what_is_declared_and_hooks_can_be_seen() {
    let folder = Folder::with_libraries("symbols");
    let library = folder.path("libcrore.so.0");
    let text = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(library));
    let declared = in_header(&plain(&read("include/crore.h")), "crore_");
    let mut seen = Vec::new();
    for symbol in text
        .lines()
        .filter_map(|line| line.split_whitespace().last())
    {
        match symbol.split_once('@') {
            Some((name, version)) => {
                assert_eq!(version, "@CRORE_0.1", "{symbol}");
                seen.push(name.to_owned());
            }
            None if symbol == "CRORE_0.1" => {}
            // libc's names are asked for with libc's versions.
            None => assert!(
                !symbol.starts_with("_ZN") && !symbol.starts_with("_R") && !symbol.contains("rust"),
                "{symbol} is Rust's"
            ),
        }
    }
    seen.sort();
    let libcos = in_header(&plain(&read("include/libco/co_routine.h")), "co_");
    let mut wanted: Vec<_> = declared.into_keys().chain(libcos.into_keys()).collect();
    wanted.sort();
    assert_eq!(seen, wanted);
}
