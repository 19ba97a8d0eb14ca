//! Inside a network namespace: brings `lo` up, which a new one has down (netdevice(7)).

#![allow(unsafe_code, reason = "the interface ioctls have no safe wrapper")]

use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

nix::ioctl_read_bad!(interface_flags, libc::SIOCGIFFLAGS, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_interface_flags, libc::SIOCSIFFLAGS, libc::ifreq);

/// Brings `lo` up in the network namespace of this thread.
///
/// # Errors
///
/// What the kernel says.
pub fn loopback_up() -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    // SAFETY: ifreq is a C struct of numbers and a union of numbers, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    // SAFETY: the descriptor is open, and the kernel reads and writes one ifreq.
    unsafe { interface_flags(socket.as_raw_fd(), &raw mut request) }?;
    let up = libc::c_short::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    // SAFETY: the call above filled this member of the union in.
    let before = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = before | up;
    // SAFETY: the descriptor is open, and the kernel reads one ifreq.
    unsafe { set_interface_flags(socket.as_raw_fd(), &raw const request) }?;
    Ok(())
}
