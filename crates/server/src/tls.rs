//! TLS of the doors: certificates, and the connections they make.
//!
//! The certificate and the key are files, read again while the server runs, so that a renewed
//! certificate needs no restart. A file that cannot be used stops a server from starting, but does
//! not stop a running one: that one goes on with what it has and says so in the log. With a client
//! authority, only clients with a certificate of it get to say anything at all; who they are is still
//! told by signing in.
//!
//! The library that keeps the secrets is named here, and nowhere else: nothing relies on a default of
//! the process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Files with what a server shows to its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the server, then those that vouch for it, in PEM.
    pub certificate: PathBuf,
    /// The private key of the certificate, in PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// Authorities in PEM, one of whom must vouch for each client. Default: clients need no
    /// certificate.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("`{}` holds no {wanted}: it must be a PEM file with `-----BEGIN {label}-----`", .file.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// How that begins.
        label: &'static str,
    },
    /// The files do not go together, or are of a kind that is not taken.
    #[error("the certificate `{}` and the key `{}` cannot be used: {reason}", .files.certificate.display(), .files.key.display())]
    Refused {
        /// The files.
        files: Box<TlsFiles>,
        /// What is wrong with them.
        reason: String,
    },
}

/// What the files held when they were last looked at.
#[derive(Debug)]
struct Current {
    /// When the files were looked at for a connection.
    looked: Option<Instant>,
    /// What was read then, also when it could not be used.
    content: blake3::Hash,
    config: Arc<ServerConfig>,
}

/// Makes TLS connections of TCP connections.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    /// The protocol that is spoken inside.
    protocol: &'static [u8],
    current: Mutex<Current>,
}

/// The bytes of the files.
struct Read {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files for a door that speaks `protocol`, as ALPN names it.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should; key and certificate do not belong
    /// together.
    pub(crate) fn open(files: TlsFiles, protocol: &'static [u8]) -> Result<Self, TlsError> {
        let read = Read::from(&files)?;
        let current = Mutex::new(Current {
            looked: None,
            content: read.hash(),
            config: read.config(&files, protocol)?,
        });
        Ok(Self {
            files,
            protocol,
            current,
        })
    }

    /// What makes a TLS connection of a TCP connection now.
    pub(crate) fn acceptor(&self, now: Instant) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = current.looked;
        if looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK_EVERY) {
            current.looked = Some(now);
            self.look(&mut current);
        }
        TlsAcceptor::from(Arc::clone(&current.config))
    }

    /// Takes what the files hold now, if it is new and can be used.
    fn look(&self, current: &mut Current) {
        let read = match Read::from(&self.files) {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "the files of TLS are gone; the certificate in use stays");
                return;
            }
        };
        let content = read.hash();
        if content == current.content {
            return;
        }
        current.content = content;
        match read.config(&self.files, self.protocol) {
            Ok(config) => {
                tracing::info!(file = %self.files.certificate.display(), "the certificate was read again");
                current.config = config;
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate cannot be used; the one in use stays");
            }
        }
    }
}

impl Read {
    fn from(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |file: &Path| {
            std::fs::read(file).map_err(|source| TlsError::Read {
                file: file.to_owned(),
                source,
            })
        };
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let parts = [&self.certificate, &self.key];
        for part in parts.into_iter().chain(&self.client_ca) {
            hasher.update(blake3::hash(part).as_bytes());
        }
        hasher.finalize()
    }

    fn config(
        &self,
        files: &TlsFiles,
        protocol: &'static [u8],
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let refused = |reason: String| TlsError::Refused {
            files: Box::new(files.clone()),
            reason,
        };
        let chain = certificates(&files.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::Missing {
            file: files.key.clone(),
            wanted: "private key without a password",
            label: "PRIVATE KEY",
        })?;
        let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(error.to_string()))?;
        let builder = match (&files.client_ca, &self.client_ca) {
            (Some(file), Some(bytes)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(file, bytes)? {
                    roots
                        .add(authority)
                        .map_err(|error| refused(format!("`{}`: {error}", file.display())))?;
                }
                let clients =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| refused(format!("`{}`: {error}", file.display())))?;
                builder.with_client_cert_verifier(clients)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| refused(error.to_string()))?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }
}

/// The certificates in a file: at least one.
fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Missing {
            file: file.to_owned(),
            wanted: "certificate",
            label: "CERTIFICATE",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../testdata/tls")
            .join(name)
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_damaged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let put = |from: &str, name: &str| {
            let _bytes = std::fs::copy(test_file(from), at(name)).unwrap();
        };
        put("server.pem", "now.pem");
        put("server.key", "now.key");
        let files = TlsFiles {
            certificate: at("now.pem"),
            key: at("now.key"),
            client_ca: None,
        };
        let mut now = Instant::now();
        let tls = Tls::open(files, b"h2").unwrap();
        let mut after = |wait| {
            now += wait;
            Arc::clone(tls.acceptor(now).config())
        };
        let first = after(Duration::ZERO);
        put("renewed.pem", "now.pem");
        // Half renewed is not renewed.
        assert!(Arc::ptr_eq(&first, &after(LOOK_EVERY)));
        put("renewed.key", "now.key");
        assert!(
            Arc::ptr_eq(&first, &after(LOOK_EVERY / 2)),
            "not looked at yet"
        );
        let renewed = after(LOOK_EVERY);
        assert!(!Arc::ptr_eq(&first, &renewed));
        std::fs::remove_file(at("now.key")).unwrap();
        assert!(Arc::ptr_eq(&renewed, &after(LOOK_EVERY)));
        std::fs::write(at("now.key"), "damaged").unwrap();
        assert!(Arc::ptr_eq(&renewed, &after(LOOK_EVERY)));
        put("renewed.key", "now.key");
        after(LOOK_EVERY);
        put("server.pem", "now.pem");
        put("server.key", "now.key");
        assert!(!Arc::ptr_eq(&renewed, &after(LOOK_EVERY)));
    }
}
