//! Runs the case that `CRORE_CASE` names; `tests/cases.rs` runs each in a
//! process of its own and says what is right.

mod cases;

fn main() {
    let name = std::env::var("CRORE_CASE").unwrap_or_default();
    let Some((_, case)) = cases::ALL.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = cases::ALL.iter().map(|(name, _)| *name).collect();
        eprintln!("CRORE_CASE names none of the cases: {}", names.join(", "));
        std::process::exit(2);
    };
    case();
}
