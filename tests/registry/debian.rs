//! Against Debian's `docker-registry`.

use imgbuild::digest::Digest;
use imgbuild::progress::Silent;
use imgbuild::registry::document::{Descriptor, EMPTY_BYTES, MANIFEST, Manifest};
use imgbuild::registry::{Authorities, CredentialFiles, Error, Pushed, Settings, Which};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::support::oci::{DockerRegistry, Fault, PASSWORD, Server, USER, auth_file};
use super::{bytes, file, repository, settings, store, wanted};

#[test]
fn things_go_there_and_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::start(directory.path(), false) else { return };
    let settings = Settings { piece: 1 << 20, ..settings() };
    let repository = repository(registry.host(), settings);
    let content = bytes(2_500_000);
    let digest = Digest::of(&content);
    let pushed = repository.push_blob(&digest, 2_500_000, &file(&content)).unwrap();
    assert_eq!(pushed, Pushed { sent: 2_500_000, was_there: false });
    assert!(repository.push_blob(&digest, 2_500_000, &file(&content)).unwrap().was_there);
    let (_directory, store) = store();
    let pulled = repository.pull_blob(wanted(&content), &store, &Silent).unwrap();
    assert_eq!(pulled.digest(), digest);

    let empty = Descriptor::empty();
    repository.push_bytes(EMPTY_BYTES).unwrap();
    assert!(repository.push_bytes(EMPTY_BYTES).unwrap().was_there);
    let layer = Descriptor::new("application/x", digest, content.len() as u64);
    let manifest = Manifest::new("application/x", vec![layer]);
    let (document, tag) = (manifest.to_bytes(), Which::Tag("1.0".parse().unwrap()));
    assert_eq!(repository.manifest(&tag).unwrap(), None);
    repository.put_manifest(&tag, MANIFEST, &document).unwrap();
    let found = repository.manifest(&tag).unwrap().unwrap();
    assert_eq!((&found.bytes, found.media_type.as_str()), (&document, MANIFEST));
    let by_digest = Which::Digest(found.digest);
    assert_eq!(repository.manifest(&by_digest).unwrap().unwrap(), found);

    // It has no list of what is about a manifest.
    let about = Manifest::new("application/y", vec![empty]).about(found.descriptor());
    let about = about.to_bytes();
    let put =
        repository.put_manifest(&Which::Digest(Digest::of(&about)), MANIFEST, &about).unwrap();
    assert!(put.listed);
    let listed = repository.referrers(&found.digest, &|_| true, 9).unwrap();
    assert_eq!(listed.iter().map(|it| it.digest).collect::<Vec<_>>(), [put.digest]);
    assert!(repository.delete_manifest(&found.digest, &put.digest).unwrap());
    assert_eq!(repository.referrers(&found.digest, &|_| true, 9).unwrap(), []);
    assert_eq!(repository.manifest(&Which::Digest(put.digest)).unwrap(), None);

    let missing = Descriptor::of("application/x", b"never pushed");
    let manifest = Manifest::new("application/x", vec![missing]).to_bytes();
    let error = repository.put_manifest(&tag, MANIFEST, &manifest).unwrap_err();
    assert!(error.to_string().contains("MANIFEST_BLOB_UNKNOWN"), "{error}");
}

#[test]
fn connections_that_break_cost_no_more_than_they_must() {
    let directory = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::start(directory.path(), false) else { return };
    let proxy = Server::before(registry.host());
    let settings = Settings { piece: 1 << 20, ..settings() };
    let repository = repository(&proxy.host(), settings);
    let content = bytes(2_500_000);
    let digest = Digest::of(&content);
    // Within a piece: this registry drops the upload, so it starts over.
    proxy.fault("PATCH", "", Fault::CutRequest(500_000));
    repository.push_blob(&digest, 2_500_000, &file(&content)).unwrap();
    assert!(!proxy.has_faults());
    let posts = proxy.take_seen().iter().filter(|asked| asked.method == "POST").count();
    assert_eq!(posts, 2);
    assert!(repository.has_blob(&digest).unwrap());

    // Before a piece: it goes on.
    let other = bytes(2_500_001);
    proxy.fault("PATCH", "", Fault::Change(Box::new(|reply| reply)));
    proxy.fault("PATCH", "", Fault::CutRequest(0));
    proxy.take_seen();
    repository.push_blob(&Digest::of(&other), 2_500_001, &file(&other)).unwrap();
    assert!(!proxy.has_faults());
    let methods: Vec<_> = proxy.take_seen().into_iter().map(|asked| asked.method).collect();
    assert_eq!(methods.iter().filter(|method| *method == "POST").count(), 1, "{methods:?}");

    // On the way back.
    let (_directory, store) = store();
    proxy.fault("GET", "blobs", Fault::CutAnswer(2_000_000));
    repository.pull_blob(wanted(&content), &store, &Silent).unwrap();
    let ranges: Vec<_> =
        proxy.take_seen().iter().map(|it| it.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=2000000-".to_owned())]);
}

#[test]
fn a_closed_registry_is_opened_by_a_login() {
    let directory = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::start(directory.path(), true) else { return };
    let path = directory.path().join("auth.json");
    let with = |password: &str| {
        std::fs::write(&path, auth_file(registry.host(), USER, password)).unwrap();
        let credentials = CredentialFiles::at(&path);
        repository(registry.host(), Settings { credentials, ..settings() })
    };
    let content = bytes(2500);
    let digest = Digest::of(&content);
    with(PASSWORD).push_blob(&digest, 2500, &file(&content)).unwrap();
    assert!(with(PASSWORD).has_blob(&digest).unwrap());
    let (_directory, store) = store();
    with(PASSWORD).pull_blob(wanted(&content), &store, &Silent).unwrap();
    for settings in [with("wrong"), repository(registry.host(), settings())] {
        let error = settings.has_blob(&digest).unwrap_err();
        assert!(matches!(error, Error::Login { .. }), "{error}");
    }
}

/// An authority, with its certificate as PEM text.
fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let own = authority.self_signed(&key).unwrap();
    (Issuer::new(authority, key), own.pem())
}

#[test]
fn a_registry_is_believed_by_its_authority_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (issuer, ours) = authority("ours");
    let (_, others) = authority("others");
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let signed = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    for (name, text) in [
        ("ours.pem", &ours),
        ("others.pem", &others),
        ("registry.crt", &signed.pem()),
        ("registry.key", &key.serialize_pem()),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let Some(registry) = DockerRegistry::start_tls(directory.path()) else { return };
    let host = format!("https://{}", registry.host());
    let with = |name: Option<&str>| {
        let read = |name| Authorities::read(&directory.path().join(name)).unwrap();
        repository(&host, Settings { authorities: name.map(read), ..settings() })
    };
    assert!(!with(Some("ours.pem")).push_bytes(b"x").unwrap().was_there);
    for name in [Some("others.pem"), None] {
        let error = with(name).has_blob(&Digest::of("x")).unwrap_err();
        assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    }
    assert!(Authorities::read(&directory.path().join("registry.key")).is_err());
}
