//! Certificates of nodes, as a cluster makes them: an authority of its own signs one for each node.

use std::sync::Arc;

use imgbuild::proxmox::Fingerprint;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Which certificate a node shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// One for `localhost` and 127.0.0.1.
    Good,
    /// One that has expired in 2020.
    Expired,
    /// One for another host.
    OtherHost,
}

/// A node's side of TLS.
pub struct Tls {
    /// What the server is set up with.
    pub config: Arc<ServerConfig>,
    /// Of the node's certificate.
    pub fingerprint: Fingerprint,
    /// The authority, PEM.
    pub authority: String,
}

/// Makes an authority and a certificate.
pub fn tls(certificate: Certificate) -> Tls {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "Proxmox Virtual Environment");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let own = authority.self_signed(&authority_key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names: &[&str] = match certificate {
        Certificate::OtherHost => &["pve.elsewhere.example"],
        _ => &["localhost", "127.0.0.1"],
    };
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut node = CertificateParams::new(names).expect("names");
    node.distinguished_name.push(DnType::CommonName, "pve1.campus.example");
    if certificate == Certificate::Expired {
        node.not_before = date_time_ymd(2018, 1, 1);
        node.not_after = date_time_ymd(2020, 1, 1);
    }
    let signed = node
        .signed_by(&key, &Issuer::new(authority, authority_key))
        .expect("a certificate of the node");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(
            vec![signed.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("a certificate that fits its key");
    Tls {
        config: Arc::new(config),
        fingerprint: Fingerprint::of(signed.der()),
        authority: own.pem(),
    }
}
