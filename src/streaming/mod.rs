//! The front door for exec, attach and port-forward: HTTP that becomes SPDY or WebSocket.
//!
//! The CRI gives the kubelet a URL with a token in it; whoever has the token is served, once. What
//! is done then, and what a process or a pod is, others know (`container`, `sandbox`): here bytes
//! are taken apart and put together.
//!
//! Everything a client sends is bounded, and everything done for a client ends with its
//! connection: processes, tasks, descriptors.

mod command;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod line;
mod negotiate;
mod pipe;
mod port_forward;
mod resize;
mod server;
mod spdy;
mod status;
mod tls;
mod tokens;
mod websocket;

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

pub use command::Wanted;
pub use error::StreamingError;
pub use tls::Tls;
pub use tls::TlsSettings;
pub use tls::make_self_signed;

use crate::container::Containers;
use crate::model::ids::ContainerId;
use crate::model::ids::SandboxId;
use crate::sandbox::Sandboxes;
use crate::streaming::command::Command;
use crate::streaming::port_forward::Forwarding;
use crate::streaming::tokens::Tokens;
use crate::sys::socket;

/// What the configuration says about streaming.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; `None` is everywhere.
    pub address: Option<IpAddr>,
    /// On which port; 0 takes a free one.
    pub port: u16,
    /// How long a connection may stand still; zero is for ever.
    pub idle: Duration,
    /// With TLS.
    pub tls: Option<TlsSettings>,
}

/// The streaming server.
#[derive(Debug)]
pub struct Streaming {
    tokens: Tokens<Asked>,
    /// What URLs begin with.
    base: String,
    idle: Duration,
    tls: Option<Tls>,
    containers: Arc<Containers>,
    sandboxes: Arc<Sandboxes>,
}

/// What a token stands for.
#[derive(Debug)]
enum Asked {
    Exec(Command),
    Attach(Command),
    PortForward(Forwarding),
}

impl Streaming {
    /// Listens, and builds the server; [`Streaming::serve`] serves what comes.
    ///
    /// # Errors
    ///
    /// [`StreamingError`] for an address that cannot be had, and for certificates that are no good.
    pub fn listen(
        settings: Settings,
        containers: Arc<Containers>,
        sandboxes: Arc<Sandboxes>,
    ) -> Result<(Self, TcpListener), StreamingError> {
        let tls = settings.tls.map(Tls::new).transpose()?;
        let listener = bind(settings.address, settings.port)?;
        let address = listener.local_addr().map_err(|source| {
            let ip = settings.address.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
            StreamingError::Listen { address: SocketAddr::new(ip, settings.port), source }
        })?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let streaming = Self {
            tokens: Tokens::new(),
            base: format!("{scheme}://{address}"),
            idle: settings.idle,
            tls,
            containers,
            sandboxes,
        };
        Ok((streaming, listener))
    }

    /// Where it is served: what URLs begin with.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A URL at which the command is run, once.
    ///
    /// # Errors
    ///
    /// [`StreamingError::TooManyWaiting`] when too many URLs are not used.
    pub fn exec(
        &self,
        container: ContainerId,
        command: Vec<String>,
        wanted: Wanted,
    ) -> Result<String, StreamingError> {
        self.url("exec", Asked::Exec(Command { container, run: Some(command), wanted }))
    }

    /// A URL at which a client is attached to the container's own process, once.
    ///
    /// # Errors
    ///
    /// As [`Streaming::exec`].
    pub fn attach(&self, container: ContainerId, wanted: Wanted) -> Result<String, StreamingError> {
        self.url("attach", Asked::Attach(Command { container, run: None, wanted }))
    }

    /// A URL at which ports of the pod are reached, by one client.
    ///
    /// # Errors
    ///
    /// As [`Streaming::exec`].
    pub fn port_forward(
        &self,
        sandbox: SandboxId,
        ports: Vec<u16>,
    ) -> Result<String, StreamingError> {
        self.url("portforward", Asked::PortForward(Forwarding { sandbox, ports }))
    }

    fn url(&self, verb: &str, asked: Asked) -> Result<String, StreamingError> {
        let token = self.tokens.give(asked, Instant::now())?;
        Ok(format!("{}/{verb}/{token}", self.base))
    }
}

/// Listens as the reference does: an address that says "everywhere" means both families, where the
/// kernel has both.
fn bind(address: Option<IpAddr>, port: u16) -> Result<TcpListener, StreamingError> {
    let listen = |ip: IpAddr| {
        let address = SocketAddr::new(ip, port);
        socket::listen(address).map_err(|source| StreamingError::Listen { address, source })
    };
    match address.map(|address| address.to_canonical()) {
        Some(ip) if !ip.is_unspecified() => listen(ip),
        _ => listen(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| listen(Ipv4Addr::UNSPECIFIED.into())),
    }
}
