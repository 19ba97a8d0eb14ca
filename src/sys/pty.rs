//! Terminals of processes in containers: our end of them.
//!
//! A terminal is made in the container, by the runtime, so that it is one of the container's own
//! (`/dev/pts` there). The runtime hands its other end, the master, through a socket that it was
//! named (runc's `--console-socket`).

#![allow(unsafe_code, reason = "a descriptor is registered with the event loop, and an ioctl")]

use std::fmt;
use std::io;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use nix::libc;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::Interest;
use tokio::io::ReadBuf;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;

/// Where a runtime hands us a terminal.
#[derive(Debug)]
pub struct ConsoleSocket(UnixListener);

impl ConsoleSocket {
    /// Listens there.
    ///
    /// # Errors
    ///
    /// What the kernel says; a path of more than 107 bytes cannot be used.
    pub fn bind(path: &Path) -> io::Result<Self> {
        UnixListener::bind(path).map(Self)
    }

    /// Waits for the terminal.
    ///
    /// # Errors
    ///
    /// What the kernel says, and [`io::ErrorKind::InvalidData`] when what comes is no terminal.
    pub async fn receive(self) -> io::Result<Terminal> {
        let (stream, _) = self.0.accept().await?;
        let master = stream.async_io(Interest::READABLE, || receive(&stream)).await?;
        let master = master.ok_or(io::ErrorKind::InvalidData)?;
        Terminal::new(master)
    }
}

/// The one descriptor that a message brings; others that came with it are closed.
fn receive(stream: &tokio::net::UnixStream) -> io::Result<Option<OwnedFd>> {
    // The runtime sends the terminal's name along, which says nothing to us.
    let mut name = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut name)];
    rustix::net::recvmsg(stream, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut found = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(found.next().and_then(|mut descriptors| descriptors.next()))
}

/// Our end of a terminal. What is written to it, its processes read, and the other way round. Its
/// end is when no process has it open any more.
pub struct Terminal(AsyncFd<OwnedFd>);

impl fmt::Debug for Terminal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Terminal").field(&self.0.get_ref()).finish()
    }
}

impl Terminal {
    fn new(master: OwnedFd) -> io::Result<Self> {
        if !nix::unistd::isatty(&master)? {
            return Err(io::ErrorKind::InvalidData.into());
        }
        rustix::io::ioctl_fionbio(&master, true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: an owned descriptor stays the same open one for as long as it lives.
        let master = unsafe { AsyncFd::register_with_interest(master, interest)? };
        Ok(Self(master))
    }

    /// Tells the processes how large their client's window is (`ioctl_tty(2)`, TIOCSWINSZ).
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let master = self.0.get_ref().as_raw_fd();
        // SAFETY: the kernel reads one `winsize`, which outlives the call.
        let result = unsafe { libc::ioctl(master, libc::TIOCSWINSZ, &raw const size) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsyncRead for &Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let read = ready.try_io(|master| {
                Ok(rustix::io::read(master.get_ref(), buffer.initialize_unfilled())?)
            });
            match read {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // Nobody has it open any more (tty_ioctl(4) is silent on it; so is the kernel).
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for &Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            let written = ready.try_io(|master| Ok(rustix::io::write(master.get_ref(), bytes)?));
            if let Ok(written) = written {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A terminal has one end for both ways: it stays open for what comes back.
        Poll::Ready(Ok(()))
    }
}
