//! What `https` targets are checked against: the system's certificates and, where configured, one more file of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls_platform_verifier::Verifier;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read certificates from {path}: {error}", path = path.display())]
    CaFile { path: PathBuf, error: pem::Error },
    #[error("cannot trust the certificates in {path}: {error}", path = path.display())]
    CaCertificates { path: PathBuf, error: rustls::Error },
    #[error("cannot check certificates of https backends: {0}")]
    Trust(rustls::Error),
}

pub(super) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = match ca_file {
        None => Verifier::new(provider.clone()).map_err(Error::Trust)?,
        Some(path) => {
            let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|error| Error::CaFile { path: path.to_owned(), error })?;
            Verifier::new_with_extra_roots(certificates, provider.clone())
                .map_err(|error| Error::CaCertificates { path: path.to_owned(), error })?
        }
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Trust)?
        .dangerous() // Named so by rustls for any verifier of one's own; this one checks as the system does.
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
