//! TLS for the test registry: keys and certificates made on the spot.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// Keys and certificates for 127.0.0.1, made for one test.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The authority's certificate, PEM.
    pub authority: String,
    /// A client certificate by the same authority, PEM.
    pub client_certificate: String,
    /// Its key, PEM.
    pub client_key: String,
    /// Whether a client must show its certificate.
    pub client_required: bool,
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority_der: Vec<u8>,
}

impl Tls {
    /// Makes an authority, a server certificate and a client certificate.
    pub fn make(client_required: bool) -> Self {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let signed = |name: &str, usage: rcgen::ExtendedKeyUsagePurpose| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, server_key) = signed("127.0.0.1", rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        let (client, client_key) = signed("client", rcgen::ExtendedKeyUsagePurpose::ClientAuth);
        Self {
            authority: authority_certificate.pem(),
            client_certificate: client.pem(),
            client_key: client_key.serialize_pem(),
            client_required,
            certificate: server.der().to_vec(),
            key: server_key.serialize_der(),
            authority_der: authority_certificate.der().to_vec(),
        }
    }

    /// One certificate that signs itself and is marked as an authority: what `openssl req -x509`
    /// makes. It is for `name`, and good until the end of `last_year`.
    pub fn self_signed(name: &str, last_year: i32) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            authority: certificate.pem(),
            client_certificate: String::new(),
            client_key: String::new(),
            client_required: false,
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            authority_der: certificate.der().to_vec(),
        }
    }

    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::PrivatePkcs8KeyDer;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if self.client_required {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from(self.authority_der.clone())).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        let chain = vec![CertificateDer::from(self.certificate.clone())];
        Arc::new(builder.with_single_cert(chain, key.into()).unwrap()).into()
    }
}

/// Accepts TLS connections for axum; a failed handshake is the client's business.
pub struct TlsListener {
    pub listener: TcpListener,
    pub acceptor: tokio_rustls::TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = tokio_rustls::server::TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
