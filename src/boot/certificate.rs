//! Certificates for guests that are only tried out.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate with its key, and the authority that signed it, made for one trial. All PEM.
pub struct TrialCertificate {
    /// The authority's certificate. Its key is gone already.
    pub authority: String,
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
}

impl TrialCertificate {
    /// Makes one for `names`: host names and addresses.
    ///
    /// # Errors
    ///
    /// When a name is none that a certificate can have, or no key can be made.
    pub fn new(names: Vec<String>) -> Result<Self, Error> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::default();
        authority.distinguished_name = name("imgbuild trial authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let mut certificate = CertificateParams::new(names)?;
        certificate.distinguished_name = name("imgbuild trial");
        let own = authority.self_signed(&authority_key)?;
        let signed = certificate.signed_by(&key, &Issuer::new(authority, authority_key))?;
        Ok(Self { authority: own.pem(), certificate: signed.pem(), key: key.serialize_pem() })
    }
}

fn name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}
