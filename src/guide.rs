//! The longer pages, one a subject; the repository has them in `docs/`.

// Each page names the others as `[KINDS.md]`, and says at its end where that file is,
// for who reads it in the repository. What `page!` puts before a page says it for
// these pages, and of two definitions Markdown takes the first.

/// A module whose documentation is a file, with pictures below it.
macro_rules! page {
    ($name:ident, $file:literal $(, $picture:literal)*) => {
        #[doc = concat!(
            "[ARCHITECTURE.md]: crate::guide::architecture\n",
            "[CANCELLATION.md]: crate::guide::cancellation\n",
            "[COMPATIBILITY.md]: crate::guide::compatibility\n",
            "[GLOSSARY.md]: crate::guide::glossary\n",
            "[KINDS.md]: crate::guide::kinds\n",
            "[LOCKS.md]: crate::guide::locks\n",
            "[MEASURED.md]: crate::guide::measured\n",
            "[TESTING.md]: crate::guide::testing\n",
            "[the table of calls]: crate::hook\n",
            "\n",
            include_str!($file),
            $("\n", include_str!($picture), "\n",)*
        )]
        pub mod $name {}
    };
}

page!(kinds, "../docs/KINDS.md");
page!(locks, "../docs/LOCKS.md");
page!(cancellation, "../docs/CANCELLATION.md");
page!(compatibility, "../docs/COMPATIBILITY.md");
page!(
    measured,
    "../docs/MEASURED.md",
    "../docs/plots/echo_cpu.svg",
    "../docs/plots/yield.svg",
    "../docs/plots/memory.svg"
);
page!(architecture, "../ARCHITECTURE.md");
page!(testing, "../docs/TESTING.md");
page!(glossary, "../docs/GLOSSARY.md");
