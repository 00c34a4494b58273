//! Interposition: crore's definitions of libc's functions, and libc's own behind
//! them.
//!
//! [`hook!`] is the shell in which every hook is declared. [`next`] finds libc's
//! definition of the same name, [`bound`] tells whether a program's calls reach
//! ours, and [`fortify`] is what C code compiled with `_FORTIFY_SOURCE` calls.

#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod aliases;
pub(crate) mod bound;
pub(crate) mod fortify;
pub(crate) mod next;
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
pub(crate) mod variadic;

/// Declares a hook: crore's definition of a function of libc's.
///
/// ```text
/// hook!(
///     next_or(SYS_flock),
///     Some(cx) = in_coroutine(),
///     /// What is special about it.
///     unsafe extern "C" fn flock(fd: c_int, operation: c_int) -> c_int {
///         // in the coroutine `cx`
///     }
/// );
/// ```
///
/// The function is plain Rust. Before it stand, or are left out:
///
/// - `next_or(…)`: libc's own function is behind it, as `flock::next` here: one
///   load and one jump. In brackets is what to do where the linker finds none
///   (static linking, an old libc): the system call that takes the same
///   arguments, a `sys!(…)` with others, or an expression. `next`: libc must have it.
///   `next_variadic_or(…)`: C declares it with `...`. Without this line the hook
///   is made of other hooks.
/// - `Some(cx) = …`: which calls are a coroutine's; all others go straight on to
///   libc's own. Without this line the body decides.
///
/// Each hook has a row in the table of calls (`hook/table.rs`), which looks libc's
/// own functions up. The compiler finds a hook that is missing there: its
/// `look_up` is dead code.
macro_rules! hook {
    // A hook that is a coroutine's only if there is one.
    (
        $next:ident $(($($or:tt)*))?, Some($cx:pat) = $gate:expr,
        $(#[$attr:meta])*
        unsafe extern $abi:literal fn $name:ident($($arg:ident: $ty:ty),* $(,)?)
        $(-> $ret:ty)? $body:block
    ) => {
        $crate::hook::libc::hook!(
            $next $(($($or)*))?,
            $(#[$attr])*
            unsafe extern $abi fn $name($($arg: $ty),*) $(-> $ret)? {
                let Some($cx) = $gate else {
                    // SAFETY: the caller's arguments.
                    return unsafe { $name::next($($arg),*) };
                };
                $body
            }
        );
    };

    // A hook in front of libc's own function.
    (
        $next:ident $(($($or:tt)*))?,
        $(#[$attr:meta])*
        unsafe extern $abi:literal fn $name:ident($($arg:ident: $ty:ty),* $(,)?)
        $(-> $ret:ty)? $body:block
    ) => {
        $(#[$attr])*
        #[unsafe(no_mangle)]
        unsafe extern $abi fn $name($($arg: $ty),*) $(-> $ret)? $body

        #[allow(non_camel_case_types, reason = "named after the function")]
        pub(crate) enum $name {}

        impl $name {
            /// libc's own.
            ///
            /// # Safety
            ///
            /// - As for the C function.
            #[inline(always)]
            pub(crate) unsafe fn next($($arg: $ty),*) $(-> $ret)? {
                $crate::hook::libc::hook!(@simulated $name $($ret)?; $($($or)*)?; $($arg)*);
                type Function =
                    $crate::hook::libc::hook!(@type $next $abi ($($ty),*) $($ret)?);
                // SAFETY: `without_next`, or what the dynamic linker says is the
                // function of this name and type.
                let function: Function = unsafe { ::std::mem::transmute(Self::definition().function()) };
                // SAFETY: forwarded.
                unsafe { function($($arg),*) }
            }

            /// What is called before libc's own is looked up, and where there is none.
            #[cold]
            #[allow(
                unreachable_code, unused_unsafe, unused_variables,
                clippy::diverging_sub_expression,
                reason = "there may be little to do, and nothing to return to"
            )]
            unsafe extern $abi fn without_next($($arg: $ty),*) $(-> $ret)? {
                if Self::definition().look_up_early() {
                    // SAFETY: forwarded.
                    return unsafe { Self::next($($arg),*) };
                }
                // SAFETY: forwarded: the same arguments, the kernel's call.
                unsafe { $crate::hook::libc::hook!(@or $name $($ret)?; $($($or)*)?; $($arg)*) }
            }

            #[inline(always)]
            fn definition() -> &'static $crate::hook::libc::next::NextDefinition {
                static NEXT: $crate::hook::libc::next::NextDefinition =
                    $crate::hook::libc::next::NextDefinition::new(
                        concat!(stringify!($name), "\0"),
                        $name::without_next as *mut ::std::ffi::c_void,
                    );
                &NEXT
            }

            pub(crate) fn look_up() {
                Self::definition().look_up();
            }
        }
    };

    // A hook that is made of others.
    (
        $(#[$attr:meta])*
        unsafe extern $abi:literal fn $name:ident($($arg:ident: $ty:ty),* $(,)?)
        $(-> $ret:ty)? $body:block
    ) => {
        $(#[$attr])*
        #[unsafe(no_mangle)]
        unsafe extern $abi fn $name($($arg: $ty),*) $(-> $ret)? $body

        #[allow(non_camel_case_types, reason = "named after the function")]
        pub(crate) enum $name {}

        impl $name {
            pub(crate) fn look_up() {}
        }
    };

    // On our targets the arguments behind `...` are passed as those before.
    (@type next_variadic_or $abi:literal ($first:ty $(, $ty:ty)*) $ret:ty) => {
        unsafe extern $abi fn($first, ...) -> $ret
    };
    (@type $next:ident $abi:literal ($($ty:ty),*) $($ret:ty)?) => {
        unsafe extern $abi fn($($ty),*) $(-> $ret)?
    };

    // Where a simulation answers system calls, libc must not make them past it.
    (@simulated $name:ident $ret:ty; $number:ident; $($arg:ident)*) => {
        #[cfg(feature = "sim")]
        if $crate::sys::simulated::world().is_some() {
            // SAFETY: the caller's arguments.
            return unsafe {
                $crate::hook::libc::hook!(@or $name $ret; $number; $($arg)*)
            };
        }
    };
    (@simulated $name:ident $ret:ty; sys!(SYS_openat, $($call:tt)*); $($arg:ident)*) => {
        #[cfg(feature = "sim")]
        if $crate::sys::simulated::world().is_some() {
            // SAFETY: the caller's arguments.
            return unsafe {
                $crate::hook::libc::hook!(@or $name $ret; sys!(SYS_openat, $($call)*); $($arg)*)
            };
        }
    };
    (@simulated $($rest:tt)*) => {};

    (@or $name:ident $($ret:ty)?; ; $($arg:ident)*) => {
        panic!(concat!("libc has no ", stringify!($name)))
    };
    (@or $name:ident $ret:ty; $number:ident; $($arg:ident)*) => {
        $crate::hook::libc::next::answer($crate::sys::syscall::sys!($number $(, $arg)*)) as $ret
    };
    (@or $name:ident $ret:ty; sys!($($call:tt)*); $($arg:ident)*) => {
        $crate::hook::libc::next::answer($crate::sys::syscall::sys!($($call)*)) as $ret
    };
    (@or $name:ident $($ret:ty)?; $or:expr; $($arg:ident)*) => {
        $or
    };
}
pub(crate) use hook;
