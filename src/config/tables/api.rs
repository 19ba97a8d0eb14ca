//! The `[crio.api]` table: how the daemon is reached.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::key::NOW;
use crate::config::key::table;
use crate::config::types::MessageSize;
use crate::config::types::Port;
use crate::config::types::TlsVersion;
use crate::config::value::Fallback::Bool;
use crate::config::value::Fallback::Integer;
use crate::config::value::Fallback::List;
use crate::config::value::Fallback::Text;

table! {
    /// How the kubelet and others reach the daemon.
    Api = "crio.api" {
        /// The unix socket on which the CRI is served.
        listen: PathBuf = Text("/var/run/crio/crio.sock"), NOW;
        /// The IP address on which exec, attach and port-forward are served.
        stream_address: String = Text("127.0.0.1"), NOW;
        /// The port on which exec, attach and port-forward are served; 0 takes a free one.
        stream_port: Port = Text("0"), NOW;
        /// Serves exec, attach and port-forward over TLS.
        stream_enable_tls: bool = Bool(false), NOW.variable("CONTAINER_ENABLE_TLS");
        /// How long a stream may stand still.
        stream_idle_timeout: Option<Duration> = Text(""), NOW.variable("STREAM_IDLE_TIMEOUT");
        /// The certificate of the streaming server.
        stream_tls_cert: Option<PathBuf> = Text(""), NOW.variable("CONTAINER_TLS_CERT");
        /// The key of the streaming server.
        stream_tls_key: Option<PathBuf> = Text(""), NOW.variable("CONTAINER_TLS_KEY");
        /// The certificates that clients of the streaming server must be signed by.
        stream_tls_ca: Option<PathBuf> = Text(""), NOW.variable("CONTAINER_TLS_CA");
        /// The oldest TLS version that the streaming and metrics servers speak: VersionTLS12 or
        /// VersionTLS13.
        tls_min_version: TlsVersion = Text("VersionTLS12"), NOW;
        /// The cipher suites for TLS 1.2; empty takes the usual ones.
        tls_cipher_suites: Vec<String> = List(&[]), NOW;
        /// The largest answer, in bytes; 0 takes the default.
        grpc_max_send_msg_size: MessageSize = Integer(MessageSize::USUAL), NOW;
        /// The largest request, in bytes; 0 takes the default.
        grpc_max_recv_msg_size: MessageSize = Integer(MessageSize::USUAL), NOW;
    }
}
