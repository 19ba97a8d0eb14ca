//! Networks of a story's own: the node's side, and the pods'.

use std::future::Future;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;

use super::host;

/// Tells a story in a network namespace that only it has, with `lo` up and nothing else.
///
/// The story's thread, its runtime, and every process it starts are in there; bridges, routes,
/// firewall rules and kernel parameters end with it.
pub(crate) fn in_own_network<F: Future<Output = ()>>(story: impl FnOnce() -> F + Send) {
    on_own_thread(|| {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        host::run("ip", &["link", "set", "lo", "up"]);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(story());
    });
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// A pinned network namespace, as a pod has it; gone when dropped.
#[derive(Debug)]
pub(crate) struct Netns {
    path: PathBuf,
}

impl Netns {
    /// A new one, pinned at the path.
    pub(crate) fn new(path: &Path) -> Self {
        std::fs::File::create_new(path).expect("a file for the pin");
        on_own_thread(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            host::run("ip", &["link", "set", "lo", "up"]);
            let none: Option<&str> = None;
            nix::mount::mount(Some("/proc/thread-self/ns/net"), path, none, MsFlags::MS_BIND, none)
                .expect("the pin");
        });
        Self { path: path.to_owned() }
    }

    /// Where it is pinned.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Does something within it.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let pin = std::fs::File::open(&self.path).expect("the pin");
        on_own_thread(|| {
            nix::sched::setns(pin, CloneFlags::CLONE_NEWNET).expect("to enter");
            work()
        })
    }

    /// The names of its interfaces.
    pub(crate) fn interfaces(&self) -> Vec<String> {
        self.inside(interfaces)
    }

    /// Answers every connection to the port with these words, as long as the namespace is there.
    pub(crate) fn serve(&self, port: u16, words: &'static str) {
        let listener = self.inside(|| TcpListener::bind(("::", port)).expect("a free port"));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(words.as_bytes());
            }
        });
    }

    /// Takes it away: the pin stays as an empty file.
    pub(crate) fn destroy(&self) {
        let _ = nix::mount::umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.destroy();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The names of the interfaces of the namespace we are in.
pub(crate) fn interfaces() -> Vec<String> {
    let links = host::run("ip", &["-o", "link", "show"]);
    let name = |line: &str| {
        let name = line.split(": ").nth(1).unwrap_or_default();
        name.split('@').next().unwrap_or_default().to_owned()
    };
    let mut names: Vec<_> = links.lines().map(name).collect();
    // Some kernels put a pair of these into every new namespace.
    names.retain(|name| !name.starts_with("ifb"));
    names
}

/// What a server at the address says, if one answers.
pub(crate) fn ask(address: impl Into<IpAddr>, port: u16) -> std::io::Result<String> {
    let address = SocketAddr::new(address.into(), port);
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut words = String::new();
    stream.read_to_string(&mut words)?;
    Ok(words)
}

/// Answers every UDP packet to the port with these words, until the namespace is gone.
pub(crate) fn serve_udp(netns: &Netns, port: u16, words: &'static str) {
    let socket = netns.inside(|| UdpSocket::bind(("::", port)).expect("a free port"));
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(words.as_bytes(), from);
        }
    });
}

/// What a UDP server says to this client, if one answers soon.
pub(crate) fn ask_udp(client: &UdpSocket, address: impl Into<IpAddr>, port: u16) -> Option<String> {
    client.set_read_timeout(Some(Duration::from_millis(700))).expect("a time-out");
    client.send_to(b"hello", SocketAddr::new(address.into(), port)).ok()?;
    let mut buffer = [0; 64];
    let length = client.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
