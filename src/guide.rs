//! The longer pages, one a subject; the repository has them in `docs/`.

// A page names others, and items, as `[KINDS.md]` and `[`spawn_shared`]`, and says at
// its end where they are for who reads it in the repository. What `page!` puts before
// a page says where they are here, and of two definitions Markdown takes the first.

/// A module whose documentation is a file, with pictures below it.
macro_rules! page {
    ($name:ident, $file:literal $(, $picture:literal)*) => {
        #[doc = concat!(
            "[ARCHITECTURE.md]: crate::guide::architecture\n",
            "[BUFFERS.md]: crate::guide::buffers\n",
            "[CANCELLATION.md]: crate::guide::cancellation\n",
            "[COMPATIBILITY.md]: crate::guide::compatibility\n",
            "[DEPLOYS.md]: crate::guide::deploys\n",
            "[GLOSSARY.md]: crate::guide::glossary\n",
            "[INSIDE.md]: crate::guide::inside\n",
            "[KINDS.md]: crate::guide::kinds\n",
            "[LOCKS.md]: crate::guide::locks\n",
            "[MEASURED.md]: crate::guide::measured\n",
            "[PARTS.md]: crate::guide::parts\n",
            "[RUN.md]: crate::guide::run\n",
            "[SAFETY.md]: crate::guide::safety_case\n",
            "[TESTING.md]: crate::guide::testing\n",
            "[`Builder::daemon`]: crate::Builder::daemon\n",
            "[`Builder::own_thread_locals`]: crate::Builder::own_thread_locals\n",
            "[`CancelToken::bind`]: crate::CancelToken::bind\n",
            "[`CancelToken::cancel`]: crate::CancelToken::cancel\n",
            "[`CancelToken::child`]: crate::CancelToken::child\n",
            "[`Handle::dump`]: crate::Handle::dump\n",
            "[`Handle::shutdown`]: crate::Handle::shutdown\n",
            "[`JoinHandle::cancel`]: crate::JoinHandle::cancel\n",
            "[`RuntimeBuilder::drain`]: crate::RuntimeBuilder::drain\n",
            "[`crore::deadline()`]: crate::deadline\n",
            "[`crore::io::is_cancelled`]: crate::io::is_cancelled\n",
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

page!(from_threads, "../docs/FROM_THREADS.md");
page!(from_tokio, "../docs/FROM_TOKIO.md");
page!(from_go, "../docs/FROM_GO.md");
page!(from_libco, "../docs/LIBCO.md");
page!(kinds, "../docs/KINDS.md");
page!(parts, "../docs/PARTS.md");
page!(locks, "../docs/LOCKS.md");
page!(run, "../docs/RUN.md");
page!(sizing, "../docs/SIZING.md");
page!(buffers, "../docs/BUFFERS.md");
page!(deploys, "../docs/DEPLOYS.md");
page!(nodes, "../docs/NODES.md");
page!(inside, "../docs/INSIDE.md");
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
page!(safety_case, "../docs/SAFETY.md");
page!(glossary, "../docs/GLOSSARY.md");
