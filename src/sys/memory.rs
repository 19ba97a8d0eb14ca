//! The allocator: few arenas, and what a burst of work took is given back.
//!
//! glibc keeps an arena for each thread that ever allocated and gives little of it back, so a
//! daemon that pulled an image once would keep that pull's memory for good (mallopt(3),
//! malloc_trim(3)).

#![allow(unsafe_code, reason = "the allocator's controls are C functions")]

/// How many arenas threads share: a pull allocates little beside its large buffers.
#[cfg(target_env = "gnu")]
const ARENAS: i32 = 2;

/// Limits the allocator's arenas. To be called before threads are started.
pub fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers; an unknown one is ignored.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, ARENAS);
    }
}

/// Gives unused memory back to the kernel. Takes about a millisecond.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and may be called at any time from any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
