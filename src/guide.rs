//! The longer pages, one a subject; the repository has them in `docs/`.

// A page names others, and items, as `[KINDS.md]` and `[`spawn_shared`]`, and says at
// its end where they are for who reads it in the repository. What `page!` puts before
// a page says where they are here, and of two definitions Markdown takes the first.

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
            "[`Builder::own_thread_locals`]: crate::Builder::own_thread_locals\n",
            "[`Handle::dump`]: crate::Handle::dump\n",
            "[`Handle::shutdown`]: crate::Handle::shutdown\n",
            "[`JoinHandle::cancel`]: crate::JoinHandle::cancel\n",
            "[`crore::deadline()`]: crate::deadline\n",
            "[`crore::is_cancelled()`]: crate::is_cancelled\n",
            "[`crore::sync`]: crate::sync\n",
            "[`spawn_future`]: crate::spawn_future()\n",
            "[`spawn_shared`]: crate::spawn_shared\n",
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
