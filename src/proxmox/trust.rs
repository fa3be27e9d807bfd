//! How a server proves who it is. There is no way to go without.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a certificate, in the spelling of Proxmox: `AA:BB:…`, 32 pairs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// Text that is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("`{0}` is no fingerprint: expected 32 pairs of hexadecimal digits, `AA:BB:…`")]
#[diagnostic(help(
    "`pvenode cert info` on the node shows it, and so does the web interface: node → System → Certificates; \
     it is the one that Proxmox calls SHA-256"
))]
pub struct ParseFingerprintError(String);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseFingerprintError(text.to_owned());
        let mut bytes = [0; 32];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().ok_or_else(error)?;
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(error());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        if pairs.next().is_some() { Err(error()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ":" };
            write!(formatter, "{separator}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Fingerprint({self})")
    }
}

/// What a server's certificate is held against.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The certificates of authorities. A cluster has one of its own, `/etc/pve/pve-root-ca.pem`, that
    /// signs the certificates of all nodes. Host name and dates are checked.
    Authorities(Vec<CertificateDer<'static>>),
    /// One certificate. Its host name and dates do not matter, and neither does who signed it.
    Certificate(Fingerprint),
    /// The authorities that browsers know (webpki-roots), as for downloads. Host name and dates are checked.
    Public,
}

/// A file of authorities that has none.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("no certificate of an authority can be read: {0}")]
#[diagnostic(help(
    "expected PEM text: copy `/etc/pve/pve-root-ca.pem` of any node of the cluster"
))]
pub struct AuthoritiesError(String);

impl Trust {
    /// Trusts the authorities whose certificates `pem` has.
    ///
    /// # Errors
    ///
    /// When there is none in it, or one that is malformed.
    pub fn authorities(pem: &[u8]) -> Result<Self, AuthoritiesError> {
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| AuthoritiesError(error.to_string()))?;
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store.add(certificate.clone()).map_err(|error| AuthoritiesError(error.to_string()))?;
        }
        if store.is_empty() {
            return Err(AuthoritiesError(
                "there is no `-----BEGIN CERTIFICATE-----` in it".to_owned(),
            ));
        }
        Ok(Self::Authorities(certificates))
    }

    /// The settings of TLS that hold servers to this.
    pub(super) fn client_config(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::Certificate(expected) => {
                Arc::new(Pinned { expected: *expected, provider: Arc::clone(&provider) })
            }
            Self::Authorities(certificates) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates.iter().cloned());
                Arc::new(Signed::new(roots, &provider))
            }
            Self::Public => {
                let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
                Arc::new(Signed::new(roots, &provider))
            }
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions of TLS")
            // Nothing is left unchecked: both verifiers check what the operator chose.
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// Why a server was not believed, and the certificate that it showed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}; the server's certificate has the fingerprint {met}")]
pub(super) struct Disbelieved {
    /// What was wrong with it.
    pub(super) why: String,
    /// The certificate that the server showed.
    pub(super) met: Fingerprint,
    /// The certificate that was expected, if it was a certain one.
    pub(super) expected: Option<Fingerprint>,
}

impl Disbelieved {
    fn into_tls(self) -> rustls::Error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(self))))
    }

    /// Finds it again in what a handshake failed with.
    pub(super) fn within(error: &rustls::Error) -> Option<&Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error))) => {
                error.downcast_ref()
            }
            _ => None,
        }
    }
}

/// Believes one certificate. That the server has its key is checked by the signatures of the handshake.
#[derive(Debug)]
struct Pinned {
    expected: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let met = Fingerprint::of(end_entity);
        if met == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        let why = format!("it is not the certificate that was expected, {}", self.expected);
        Err(Disbelieved { why, met, expected: Some(self.expected) }.into_tls())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Believes what authorities signed, and says in the error which certificate it met.
#[derive(Debug)]
struct Signed(Arc<WebPkiServerVerifier>);

impl Signed {
    fn new(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Self {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        Self(verifier.build().expect("there are authorities and no revocation lists"))
    }
}

impl ServerCertVerifier for Signed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| {
                let why = match error {
                    // The second is an authority of the same name with another key.
                    rustls::Error::InvalidCertificate(
                        CertificateError::UnknownIssuer | CertificateError::BadSignature,
                    ) => "none of the authorities that are trusted has signed it".to_owned(),
                    rustls::Error::InvalidCertificate(error) => error.to_string(),
                    error => error.to_string(),
                };
                Disbelieved { why, met: Fingerprint::of(end_entity), expected: None }.into_tls()
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_round_trips_in_the_spelling_of_proxmox() {
        let fingerprint = Fingerprint::of(b"abc");
        let text = fingerprint.to_string();
        assert!(text.starts_with("BA:78:16:BF:"), "{text}");
        assert_eq!(text.len(), 95);
        assert_eq!(text.parse(), Ok(fingerprint));
        assert_eq!(text.to_lowercase().parse(), Ok(fingerprint));
    }

    #[test]
    fn malformed_fingerprints_are_refused() {
        let good = Fingerprint::of(b"abc").to_string();
        for text in ["", "AA:BB", &good[3..], &format!("{good}:00"), &good.replace(':', "")] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
        assert!(good.replacen("BA", "+A", 1).parse::<Fingerprint>().is_err());
    }

    #[test]
    fn a_file_without_certificates_is_no_authority() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(Trust::authorities(text.as_bytes()).is_err(), "{text}");
        }
    }
}
