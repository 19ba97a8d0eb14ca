//! A client of a unix socket that keeps packets apart (`SOCK_SEQPACKET`).

#![allow(unsafe_code, reason = "a descriptor is registered with the event loop")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::Shutdown;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A connection.
#[derive(Debug)]
pub struct SeqPacket(AsyncFd<OwnedFd>);

impl SeqPacket {
    /// Connects to the socket of this name in a directory, however long the directory's path is.
    ///
    /// # Errors
    ///
    /// What the kernel says: [`io::ErrorKind::NotFound`] and
    /// [`io::ErrorKind::ConnectionRefused`] when nobody listens, [`io::ErrorKind::WouldBlock`]
    /// when too many wait already.
    pub fn connect(directory: &Path, name: &str) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let directory = File::options().read(true).custom_flags(flags).open(directory)?;
        // An address has room for 107 bytes (unix(7)).
        let address = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
        let address = SocketAddrUnix::new(address)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::connect(&socket, &address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: an owned descriptor stays the same open one for as long as it lives.
        Ok(Self(unsafe { AsyncFd::register_with_interest(socket, interest)? }))
    }

    /// Receives one packet and gives its length; 0 is the end. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let receive = |socket: &OwnedFd| {
            let (_, length) = rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?;
            Ok(length)
        };
        // The closure is called again until the socket was ready for it.
        let mut receive = receive;
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(received) = ready.try_io(|socket| receive(socket.get_ref())) {
                return received;
            }
        }
    }

    /// Sends one packet.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub async fn send(&self, packet: &[u8]) -> io::Result<()> {
        let send = |socket: &OwnedFd| {
            rustix::net::send(socket, packet, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        loop {
            let mut ready = self.0.writable().await?;
            if let Ok(sent) = ready.try_io(|socket| send(socket.get_ref())) {
                return sent;
            }
        }
    }

    /// Tells the other side that nothing more will be sent.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn end_sending(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(self.0.get_ref(), Shutdown::Write)?)
    }
}
