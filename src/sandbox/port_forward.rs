//! Connects to a port of a pod, as a process of the pod would: `kubectl port-forward`.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use crate::model::ids::SandboxId;
use crate::model::sandbox::SandboxState;
use crate::sandbox::Sandboxes;
use crate::sandbox::blocking;
use crate::sandbox::error::SandboxError;
use crate::state::NetworkState;
use crate::state::SandboxRecord;
use crate::sys::namespace;

/// How long a listener whose queue is full may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a pod's own processes find each other, in the order they try it.
const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

impl Sandboxes {
    /// Whether ports of this sandbox can be connected to now; gives its whole id.
    ///
    /// # Errors
    ///
    /// [`SandboxError::State`] when there is none, [`SandboxError::NotReady`].
    pub fn can_port_forward(&self, id: &str) -> Result<SandboxId, SandboxError> {
        Ok(self.ready(id)?.id.clone())
    }

    /// Connects to a port of a pod on its own `localhost`, by IPv4 first, then by IPv6.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::can_port_forward`]; [`SandboxError::Port`] when nobody listens.
    pub async fn port_forward(&self, id: &str, port: u16) -> Result<TcpStream, SandboxError> {
        let record = self.ready(id)?;
        let mut failure: Option<io::Error> = None;
        for address in LOCALHOST {
            let connected = match socket(&record, address).await? {
                Ok(socket) => connect(socket, SocketAddr::new(address, port)).await,
                Err(error) => Err(error),
            };
            match connected {
                Ok(stream) => return Ok(stream),
                // What is told is why the first did not work: without IPv6 the second cannot.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let metadata = &record.config.metadata;
        Err(SandboxError::Port {
            port,
            pod: format!("{}/{}", metadata.namespace, metadata.name),
            id: record.id.clone(),
            source: failure.unwrap_or_else(|| io::ErrorKind::NotConnected.into()),
        })
    }

    fn ready(&self, id: &str) -> Result<Arc<SandboxRecord>, SandboxError> {
        let record = self.find(id)?;
        if record.state != SandboxState::Ready || self.parts().is_being_made(&record) {
            return Err(SandboxError::NotReady(record.id.clone()));
        }
        Ok(record)
    }
}

/// A socket in the pod's network: it belongs to the namespace that it was made in, wherever it is
/// used. The inner error is the kernel's, about the family.
async fn socket(
    record: &SandboxRecord,
    address: IpAddr,
) -> Result<io::Result<TcpSocket>, SandboxError> {
    let make = move || match address {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    };
    match record.namespaces.net.clone() {
        Some(network) => blocking(move || Ok(namespace::run_in(&network, make)?)).await,
        None if record.network == NetworkState::Host => Ok(make()),
        None => Err(SandboxError::NotReady(record.id.clone())),
    }
}

async fn connect(socket: TcpSocket, address: SocketAddr) -> io::Result<TcpStream> {
    let connected = tokio::time::timeout(PATIENCE, socket.connect(address)).await;
    connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
