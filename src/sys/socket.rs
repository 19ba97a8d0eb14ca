//! TCP sockets: listening for both families, noticing a peer that is gone.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;
use rustix::net::sockopt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;
/// When a silent peer is asked whether it is still there, and how often again.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How many times it is asked in vain.
const KEEP_ALIVE_TRIES: u32 = 9;

/// Listens on an address. The unspecified IPv6 address takes IPv4 connections too.
///
/// # Errors
///
/// What the kernel says.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // Whatever the node's default for this is.
            sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
            socket
        }
    };
    // A daemon that starts again must not wait for connections of its predecessor to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Small writes go out at once, and a peer whose machine is gone is noticed.
///
/// # Errors
///
/// What the kernel says.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepcnt(stream, KEEP_ALIVE_TRIES)?;
    Ok(())
}

/// A second handle of a connection, to ask about its peer while somebody else reads and writes.
#[derive(Debug)]
pub struct Peer(OwnedFd);

impl Peer {
    /// The peer of a connection.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self(stream.as_fd().try_clone_to_owned()?))
    }

    /// Whether the peer has closed the connection, even if bytes of it are still unread.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        let mut polled = [PollFd::new(&self.0, PollFlags::RDHUP)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = poll(&mut polled, Some(&at_once));
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        polled.iter().any(|polled| polled.revents().intersects(gone))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn connected(address: &str) -> (TcpStream, TcpStream) {
        let listener = listen(address.parse().unwrap()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_peer_that_went_away_is_noticed_behind_unread_bytes() {
        let (mut client, server) = connected("127.0.0.1:0").await;
        prepare(&server).unwrap();
        let peer = Peer::of(&server).unwrap();
        client.write_all(b"unread").await.unwrap();
        server.readable().await.unwrap();
        assert!(!peer.has_hung_up());
        drop(client);
        while !peer.has_hung_up() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_unspecified_address_takes_both_families() {
        let Ok(listener) = listen("[::]:0".parse().unwrap()) else {
            return; // No IPv6 in this kernel.
        };
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }
}
