//! How the pause process spends its life: which signals and system calls it has left, and the wait.

#![allow(unsafe_code, reason = "signals and seccomp filters are given to the kernel as raw memory")]

use nix::errno::Errno;
use nix::libc;

/// Ends this process, running nothing that was registered for its end.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: this call only ends the process.
    unsafe { libc::_exit(code) }
}

/// The signals that end it.
fn ending() -> libc::sigset_t {
    // SAFETY: a signal set is an array of integers, for which zero is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the set is this function's own.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Sets every signal back to what it does by default, which for the first process of a namespace is
/// nothing; holds the two that end it for the wait; and has the kernel reap children.
pub(super) fn take_signals() -> nix::Result<()> {
    // SAFETY: all fields are integers or null; a zeroed handler is SIG_DFL.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    for signal in 1..32 {
        action.sa_sigaction = if signal == libc::SIGCHLD { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: the action is whole and installs no function. KILL and STOP are refused.
        let _ = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    }
    let set = ending();
    // SAFETY: the set is whole and outlives the call.
    let result =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
    Errno::result(result).map(drop)
}

/// The audit name of this architecture, as a seccomp filter sees it (linux/audit.h): ELF machine,
/// 64 bits, little-endian.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
const ARCHITECTURE: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_00B7);
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_00F3);
#[cfg(not(any(
    all(target_arch = "x86_64", target_pointer_width = "64"),
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
const ARCHITECTURE: Option<u32> = None;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K` and `BPF_RET | BPF_K` (linux/filter.h).
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const ANSWER: u16 = 0x06;

const fn load(offset: u32) -> libc::sock_filter {
    libc::sock_filter { code: LOAD, jt: 0, jf: 0, k: offset }
}

const fn skip(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

const REFUSE: libc::sock_filter =
    skip(ANSWER, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned(), 0, 0);

/// Goes on to the `allow` that is `left` tests away if the call is this one.
#[allow(clippy::cast_possible_truncation, reason = "numbers of system calls have 32 bits")]
#[allow(clippy::cast_sign_loss, reason = "and are not negative")]
const fn call(number: libc::c_long, left: u8) -> libc::sock_filter {
    skip(EQUAL, number as u32, left + 1, 0)
}

/// What is left of the kernel for it; everything else is `EPERM`. In `struct seccomp_data` the
/// number of the call is at 0 and the architecture at 4.
const fn filter(architecture: u32) -> [libc::sock_filter; 12] {
    [
        load(4),
        skip(EQUAL, architecture, 1, 0),
        REFUSE,
        load(0),
        call(libc::SYS_rt_sigtimedwait, 5),
        call(libc::SYS_restart_syscall, 4),
        call(libc::SYS_rt_sigreturn, 3),
        call(libc::SYS_close, 2),
        call(libc::SYS_exit, 1),
        call(libc::SYS_exit_group, 0),
        REFUSE,
        skip(ANSWER, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]
}

/// Leaves this process only the few system calls of the wait. On an architecture that is not named
/// above nothing is filtered. It must not be able to gain privileges any more.
pub(super) fn limit() -> nix::Result<()> {
    let Some(architecture) = ARCHITECTURE else { return Ok(()) };
    let mut filter = filter(architecture);
    let len = u16::try_from(filter.len()).unwrap_or_default();
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the program and the filter it points to outlive the call, which copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program) };
    Errno::result(result).map(drop)
}

/// Waits until someone outside the namespace wants its end.
///
/// A process inside may send the same signals, if it has the right to kill; ending would take the
/// whole pod with it. The kernel gives the number 0 to a sender outside, and nobody inside can
/// send `SI_USER` with another number than his own.
pub(super) fn forever() -> ! {
    let set = ending();
    // SAFETY: all fields are integers or null pointers.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both are whole and outlive the call.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, &raw mut info) };
        // SAFETY: the field is there for SI_USER, and is zero or a number otherwise.
        let sender = unsafe { info.si_pid() };
        if signal > 0 && info.si_code == libc::SI_USER && sender == 0 {
            exit(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_filter_leads_to_allow_and_no_other_does() {
        let program = filter(7);
        let last = program.len() - 1;
        let calls = program.iter().enumerate().skip(4).filter(|(_, step)| step.code == EQUAL);
        let mut count = 0;
        for (place, step) in calls {
            assert_eq!(place + 1 + usize::from(step.jt), last);
            assert_eq!(step.jf, 0);
            count += 1;
        }
        assert_eq!(count, 6);
        assert_eq!(program[last].k, libc::SECCOMP_RET_ALLOW);
        assert_eq!(program[last - 1].k & libc::SECCOMP_RET_ACTION_FULL, libc::SECCOMP_RET_ERRNO);
    }
}
