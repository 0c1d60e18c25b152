//! Certificates: read, checked, chosen by the name a client asks for, replaced without closing a connection.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Names of the certificate for development.
const SELF_SIGNED_FOR: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Apple refuses certificates that are valid for longer than 825 days.
const SELF_SIGNED_DAYS: u64 = 397;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pair {
    /// A chain, the server's own certificate first, and its key, both PEM.
    Files { cert: PathBuf, key: PathBuf },
    /// Made at start-up, for development.
    SelfSigned,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a TLS listener needs at least one certificate")]
    None,
    #[error("cannot read {path}: {error}", path = path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{path} holds no certificate in PEM form", path = path.display())]
    NoCertificate { path: PathBuf },
    #[error("{path} holds no private key in PEM form", path = path.display())]
    NoKey { path: PathBuf },
    #[error("{path} is not valid PEM: {error}", path = path.display())]
    Pem { path: PathBuf, error: pem::Error },
    #[error("the key in {key} does not belong to the certificate in {cert}", key = key.display(), cert = cert.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("cannot use {cert} with {key}: {error}", key = key.display(), cert = cert.display())]
    Unusable { cert: PathBuf, key: PathBuf, error: rustls::Error },
    #[error("cannot make a certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// The certificates of a listener, read and checked; immutable.
#[derive(Debug)]
pub struct Set {
    /// By name, a wildcard under its own text. A name may have several, say ECDSA and RSA.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For clients that name nothing we know.
    default: Vec<Arc<CertifiedKey>>,
    self_signed: Option<Arc<CertifiedKey>>,
}

/// What TLS listeners serve. The set is replaceable; the rest, session ticket keys above all, stays.
#[derive(Debug)]
pub struct Certificates {
    resolver: Arc<Resolver>,
    config: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Resolver(ArcSwap<Set>);

impl Set {
    /// Reads every pair. The first is for clients that name no known host. A self-signed one is taken over from
    /// `previous`, so that a reload does not ask developers again.
    pub fn load(pairs: &[Pair], previous: Option<&Set>) -> Result<Self, Error> {
        let mut set = Self { by_name: HashMap::new(), default: Vec::new(), self_signed: None };
        for pair in pairs {
            let certified = match pair {
                Pair::Files { cert, key } => Arc::new(read(cert, key)?),
                Pair::SelfSigned => {
                    let kept = previous.and_then(|it| it.self_signed.clone());
                    let certified = kept.map_or_else(|| self_signed().map(Arc::new), Ok)?;
                    set.self_signed = Some(certified.clone());
                    certified
                }
            };
            set.add(certified);
        }
        if set.default.is_empty() { Err(Error::None) } else { Ok(set) }
    }

    fn add(&mut self, certified: Arc<CertifiedKey>) {
        let names = names(&certified);
        let serves_default = match self.default.first() {
            None => true,
            Some(first) => self::names(first) == names,
        };
        if serves_default {
            self.default.push(certified.clone());
        }
        for name in names {
            self.by_name.entry(name).or_default().push(certified.clone());
        }
    }

    fn find(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = name.map(str::to_ascii_lowercase) else { return &self.default };
        let wildcard = || name.split_once('.').and_then(|(_, parent)| self.by_name.get(&format!("*.{parent}")));
        self.by_name.get(&name).or_else(wildcard).unwrap_or(&self.default)
    }
}

impl Certificates {
    pub fn new(set: Arc<Set>) -> Result<Arc<Self>, Error> {
        let resolver = Arc::new(Resolver(ArcSwap::new(set)));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(Arc::new(Self { resolver, config: Arc::new(config) }))
    }

    /// New handshakes get these; open connections stay as they are.
    pub fn replace(&self, set: Arc<Set>) {
        self.resolver.0.store(set);
    }

    pub fn current(&self) -> Arc<Set> {
        self.resolver.0.load_full()
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let set = self.0.load();
        let candidates = set.find(hello.server_name());
        let usable = candidates.iter().find(|it| it.key.choose_scheme(hello.signature_schemes()).is_some());
        usable.or(candidates.first()).cloned()
    }
}

fn read(cert: &Path, key: &Path) -> Result<CertifiedKey, Error> {
    let chain = CertificateDer::pem_slice_iter(&read_file(cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Pem { path: cert.to_owned(), error })?;
    if chain.is_empty() {
        return Err(Error::NoCertificate { path: cert.to_owned() });
    }
    let private = PrivateKeyDer::from_pem_slice(&read_file(key)?).map_err(|error| match error {
        pem::Error::NoItemsFound => Error::NoKey { path: key.to_owned() },
        error => Error::Pem { path: key.to_owned(), error },
    })?;
    CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Error::Mismatch { cert: cert.to_owned(), key: key.to_owned() },
        error => Error::Unusable { cert: cert.to_owned(), key: key.to_owned(), error },
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::File { path: path.to_owned(), error })
}

/// The host names a certificate is for. One that cannot be parsed serves as the default only.
fn names(certified: &CertifiedKey) -> Vec<String> {
    let Some(parsed) = certified.cert.first().and_then(|it| webpki::EndEntityCert::try_from(it).ok()) else {
        return Vec::new();
    };
    parsed.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

fn self_signed() -> Result<CertifiedKey, Error> {
    let mut params = CertificateParams::new(SELF_SIGNED_FOR.map(String::from))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Outrigger development");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * SELF_SIGNED_DAYS as u32).into();
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).expect("rcgen writes a PKCS #8 key");
    Ok(CertifiedKey::from_der(vec![certificate.der().clone()], private, &aws_lc_rs::default_provider())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a certificate for `names` and answers with its pair.
    fn pair(directory: &Path, stem: &str, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let (cert, key) = (directory.join(format!("{stem}.pem")), directory.join(format!("{stem}.key")));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Pair::Files { cert, key }
    }

    #[test]
    fn the_name_chooses_the_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let pairs = [
            pair(directory.path(), "main", &["example.com"]),
            pair(directory.path(), "wild", &["*.example.com"]),
            pair(directory.path(), "chat", &["chat.example.com"]),
        ];
        let set = Set::load(&pairs, None).unwrap();
        let chosen = |name| self::names(&set.find(name)[0]);
        assert_eq!(chosen(Some("CHAT.example.com")), ["chat.example.com"]);
        assert_eq!(chosen(Some("api.example.com")), ["*.example.com"]);
        assert_eq!(chosen(Some("a.b.example.com")), ["example.com"]);
        assert_eq!(chosen(Some("unknown.org")), ["example.com"]);
        assert_eq!(chosen(None), ["example.com"]);
    }

    #[test]
    fn a_key_that_belongs_to_another_certificate_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let (Pair::Files { cert, .. }, Pair::Files { key, .. }) =
            (pair(directory.path(), "a", &["a"]), pair(directory.path(), "b", &["b"]))
        else {
            unreachable!()
        };
        let error = Set::load(&[Pair::Files { cert, key }], None).unwrap_err().to_string();
        assert!(error.contains("a.pem") && error.contains("b.key") && error.contains("does not belong"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let Pair::Files { cert, key } = pair(directory.path(), "a", &["a"]) else { unreachable!() };
        let swapped = Set::load(&[Pair::Files { cert: key.clone(), key: cert.clone() }], None).unwrap_err();
        assert!(matches!(swapped, Error::NoCertificate { .. }), "{swapped}");
        let no_key = Set::load(&[Pair::Files { cert: cert.clone(), key: cert.clone() }], None).unwrap_err();
        assert!(matches!(no_key, Error::NoKey { .. }), "{no_key}");
        let missing = Set::load(&[Pair::Files { cert: directory.path().join("no"), key }], None).unwrap_err();
        assert!(matches!(missing, Error::File { .. }), "{missing}");
    }

    #[test]
    fn a_self_signed_certificate_survives_a_reload() {
        let first = Set::load(&[Pair::SelfSigned], None).unwrap();
        let second = Set::load(&[Pair::SelfSigned], Some(&first)).unwrap();
        assert!(Arc::ptr_eq(&first.default[0], &second.default[0]));
        assert_eq!(self::names(&first.default[0]), ["localhost"]);
    }
}
