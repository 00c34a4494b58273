//! The library of src/loaded.rs, not linked for being loaded.

include!("../src/loaded.rs");
