//! TLS as redis.conf configures it, for both sides: our port, and our links to servers and other sentinels; and for the
//! proxies of `tandem.toml`.
//!
//! Follows Redis: both sides check the other's certificate against `tls-ca-cert-file` (or the files of
//! `tls-ca-cert-dir`), and neither looks at the name in it, because fleets are configured by address and their
//! certificates seldom name those. TLS 1.2 and 1.3; which suites of them is `tls-protocols`, `tls-ciphers` and
//! `tls-ciphersuites`, as far as they are known here ([`tandem_config::sentinel::TlsChoice`]). The provider of the cryptography is passed explicitly, so a second one
//! that some dependency brings cannot make the choice ambiguous.

mod key;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tandem_config::sentinel::{CIPHERS, CIPHERSUITES, Secret, TlsChoice};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, ring::cipher_suite as suites, verify_tls12_signature,
    verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{
    NoServerSessionStorage, ParsedCertificate, ServerSessionMemoryCache, VerifierBuilderError,
    WebPkiClientVerifier,
};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore, ServerConfig,
    SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion, version,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// `tls-auth-clients`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AuthClients {
    /// A client must show a certificate that the CA signed.
    #[default]
    Yes,
    /// No certificate is asked for.
    No,
    /// One that is shown must be signed by the CA.
    Optional,
}

/// The files whose certificates others' certificates are checked against. At least one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Authorities {
    /// `tls-ca-cert-file`.
    pub(crate) file: Option<PathBuf>,
    /// `tls-ca-cert-dir`: every file in it that holds certificates.
    pub(crate) folder: Option<PathBuf>,
}

/// A certificate chain and its private key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// `tls-cert-file` or `tls-client-cert-file`.
    pub(crate) certificate: PathBuf,
    /// `tls-key-file` or `tls-client-key-file`.
    pub(crate) key: PathBuf,
    /// `tls-key-file-pass` or `tls-client-key-file-pass`: what the key is encrypted with, if it is.
    pub(crate) passphrase: Option<Secret>,
}

/// Which suites are offered and taken, and how sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Of both versions, by OpenSSL's names, in the order of preference.
    pub(crate) choice: TlsChoice,
    /// `tls-prefer-server-ciphers`.
    pub(crate) prefers_own_order: bool,
    /// `tls-session-cache-size`; nothing where `tls-session-caching` is off.
    pub(crate) sessions: Option<usize>,
}

impl Default for Offer {
    /// Everything that is known, and Redis' cache of sessions.
    fn default() -> Self {
        Self {
            choice: TlsChoice {
                ciphers: CIPHERS.to_vec(),
                ciphersuites: CIPHERSUITES.to_vec(),
            },
            prefers_own_order: false,
            sessions: Some(20 * 1024),
        }
    }
}

impl Offer {
    fn provider(&self) -> Arc<CryptoProvider> {
        let named = self.choice.ciphersuites.iter().chain(&self.choice.ciphers);
        let cipher_suites = named.filter_map(|name| suite(name)).collect();
        Arc::new(CryptoProvider {
            cipher_suites,
            ..ring::default_provider()
        })
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let old = (!self.choice.ciphers.is_empty()).then_some(&version::TLS12);
        let new = (!self.choice.ciphersuites.is_empty()).then_some(&version::TLS13);
        new.into_iter().chain(old).collect()
    }
}

/// A suite by OpenSSL's name.
fn suite(name: &str) -> Option<SupportedCipherSuite> {
    Some(match name {
        "TLS_AES_256_GCM_SHA384" => suites::TLS13_AES_256_GCM_SHA384,
        "TLS_AES_128_GCM_SHA256" => suites::TLS13_AES_128_GCM_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256" => suites::TLS13_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-AES256-GCM-SHA384" => suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES128-GCM-SHA256" => suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305" => suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-AES256-GCM-SHA384" => suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES128-GCM-SHA256" => suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305" => suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        _ => return None,
    })
}

/// Whether the name in the other side's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// It is not, as in Redis.
    Any,
    /// It must be the one given with the connection.
    Given,
}

/// What a listening side needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerFiles {
    /// Shown to clients.
    pub(crate) pair: Pair,
    /// For clients' certificates.
    pub(crate) authorities: Authorities,
    /// Whether clients must have one.
    pub(crate) auth_clients: AuthClients,
    /// What is spoken.
    pub(crate) offer: Offer,
}

/// What a connecting side needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientFiles {
    /// Shown to the server if it asks: the client pair where one is configured, else the server's own.
    pub(crate) pair: Option<Pair>,
    /// For the server's certificate.
    pub(crate) authorities: Authorities,
    /// What is spoken.
    pub(crate) offer: Offer,
}

/// Why TLS cannot be set up: a file of the operator's is missing or wrong. Trying again helps when the file has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read, or holds nothing of the kind.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// Certificates are to be checked, and there is nothing to check them against.
    #[error("no certificate authority is configured (tls-ca-cert-file or tls-ca-cert-dir)")]
    NoAuthority,
    /// The key does not fit the certificate, or is of a kind that is not supported.
    #[error("certificate and key: {0}")]
    Pair(#[from] RustlsError),
    /// The authorities cannot be used to check clients.
    #[error("client certificates: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

fn file_error(path: &Path, error: impl std::fmt::Display) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        error: error.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs::read(path).map_err(|error| file_error(path, error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    found.map_err(|error| file_error(path, error))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Pair {
    fn read(&self) -> Result<Identity, TlsError> {
        let chain = certificates(&self.certificate)?;
        if chain.is_empty() {
            return Err(file_error(&self.certificate, "holds no certificate"));
        }
        let text = fs::read(&self.key).map_err(|error| file_error(&self.key, error))?;
        let passphrase = self.passphrase.as_ref().map(Secret::as_bytes);
        let key = key::read(&text, passphrase).map_err(|error| file_error(&self.key, error))?;
        Ok((chain, key))
    }
}

impl Authorities {
    fn read(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.file {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| file_error(path, error))?;
            }
        }
        if let Some(folder) = &self.folder {
            let entries = fs::read_dir(folder).map_err(|error| file_error(folder, error))?;
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths.iter().filter(|path| path.is_file()) {
                // The folder may hold other files, and the same certificate under two names.
                for certificate in certificates(path).unwrap_or_default() {
                    let _ = roots.add(certificate);
                }
            }
        }
        if roots.is_empty() {
            return Err(TlsError::NoAuthority);
        }
        Ok(roots)
    }
}

/// The listening side.
///
/// # Errors
/// A file that is missing or wrong.
pub(crate) fn acceptor(files: &ServerFiles) -> Result<TlsAcceptor, TlsError> {
    server_config(files).map(TlsAcceptor::from)
}

/// What the listening side speaks.
///
/// # Errors
/// A file that is missing or wrong.
pub(crate) fn server_config(files: &ServerFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = files.pair.read()?;
    let provider = files.offer.provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&files.offer.versions())?;
    let clients = || -> Result<_, TlsError> {
        let roots = Arc::new(files.authorities.read()?);
        Ok(WebPkiClientVerifier::builder_with_provider(
            roots,
            Arc::clone(&provider),
        ))
    };
    let builder = match files.auth_clients {
        AuthClients::No => builder.with_no_client_auth(),
        AuthClients::Yes => builder.with_client_cert_verifier(clients()?.build()?),
        AuthClients::Optional => {
            builder.with_client_cert_verifier(clients()?.allow_unauthenticated().build()?)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.ignore_client_order = files.offer.prefers_own_order;
    config.session_storage = match files.offer.sessions {
        Some(sessions) => ServerSessionMemoryCache::new(sessions),
        None => Arc::new(NoServerSessionStorage {}),
    };
    Ok(Arc::new(config))
}

/// The connecting side. The name given with a connection is used for nothing.
///
/// # Errors
/// A file that is missing or wrong.
pub(crate) fn connector(files: &ClientFiles) -> Result<TlsConnector, TlsError> {
    client_config(files, Names::Any).map(TlsConnector::from)
}

/// What the connecting side speaks.
///
/// # Errors
/// A file that is missing or wrong.
pub(crate) fn client_config(
    files: &ClientFiles,
    names: Names,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = files.offer.provider();
    let roots = files.authorities.read()?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&files.offer.versions())?;
    let builder = match names {
        Names::Any => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName { roots, provider })),
        Names::Given => builder.with_root_certificates(roots),
    };
    let mut config = match &files.pair {
        Some(pair) => {
            let (chain, key) = pair.read()?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = names == Names::Given;
    Ok(Arc::new(config))
}

/// Checks that the chain leads to one of the authorities, that it is valid today, and that the other side has the key; not
/// whose name is in it.
#[derive(Debug)]
struct AnyName {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_that_a_file_may_name_is_known() {
        for name in CIPHERS.iter().chain(&CIPHERSUITES) {
            assert!(suite(name).is_some(), "{name}");
        }
        let all = Offer::default();
        assert_eq!(all.versions().len(), 2);
        assert_eq!(all.provider().cipher_suites.len(), 9);
        let new = Offer {
            choice: TlsChoice {
                ciphers: Vec::new(),
                ciphersuites: vec!["TLS_AES_128_GCM_SHA256"],
            },
            ..all
        };
        assert_eq!(new.versions(), [&version::TLS13]);
        assert_eq!(
            new.provider().cipher_suites,
            [suites::TLS13_AES_128_GCM_SHA256]
        );
    }
}
