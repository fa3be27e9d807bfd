//! Who has signed what, what machines tell each other of layers, and what is known of flaws.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use miette::NamedSource;

use super::{document, joined, parts};
use crate::audit::Tracker;
use crate::debian::date::Moment;
use crate::publish::layers;
use crate::registry::{Index, Manifest};
use crate::signature::{AllowedSigners, Identity, NAMESPACE, RevokedKeys, Signature, Sums};

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";
const HELLO: &str = include_str!("../signature/testdata/hello.sig");
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKTwBmaZ2UgH9EQK4Cy2vJ9xVyv0R9p+jhZG7NVM5Mr1";

/// A signature, with or without its armour, and a list of sums. What is read is written, and read again the same.
pub fn signature(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let armoured = format!("{BEGIN}{}\n{END}", STANDARD.encode(bytes));
    for text in [&*text, &armoured] {
        let Ok(signature) = Signature::parse(text) else { continue };
        let _ = signature.is_of(b"hello\n");
        let _ = signature.identity.name();
        let written = signature.to_text().expect("what is read can be written");
        let again = Signature::parse(&written).expect("what is written is read");
        assert_eq!(again.to_text().expect("it was written before"), written);
    }
    if let Ok(sums) = Sums::parse(&text) {
        assert_eq!(sums.to_string(), *text, "the same text has the same signature");
        assert!(sums.files.iter().all(|(name, _)| !name.contains('/') && !name.starts_with('.')));
    }
}

pub fn signature_seeds() -> Vec<Vec<u8>> {
    let body = HELLO.strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END));
    let bare = STANDARD.decode(body.unwrap_or_default().replace('\n', ""));
    let digest = crate::digest::Digest::of("x");
    let sums = format!(
        "# imgbuild sums 1\n# image {digest}\n# signed 2026-11-26T13:05:28Z\n{digest}  a.tar.zst\n{digest}  a.json\n"
    );
    vec![HELLO.into(), bare.expect("it is base64"), sums.into_bytes()]
}

/// `allowed_signers`, and a name to sign under; the same text as a file of revoked keys. What is wrong can be shown where it stands.
pub fn signers(bytes: &[u8]) {
    let mut parts = parts(bytes);
    let name = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let source = Arc::new(NamedSource::new("allowed_signers", Arc::new(text)));
    let identity = Identity::from_line(KEY).expect("it is a key");
    match RevokedKeys::parse(&source) {
        Ok(keys) => drop(keys.objection(&identity)),
        Err(errors) => document::shown(errors),
    }
    let signers = match AllowedSigners::parse(&source) {
        Ok(signers) => signers,
        Err(errors) => return document::shown(errors),
    };
    let now = Moment::parse_rfc3339("2026-11-26T13:05:28Z").expect("it is a time");
    for name in [Some(&*name), None] {
        let _ = signers.allow(&identity, NAMESPACE, name, now);
    }
}

pub fn signers_seeds() -> Vec<Vec<u8>> {
    let lines = format!(
        "# who\nci@a.example,*@b.example,!x* namespaces=\"imgbuild,file\",valid-after=\"20260101Z\",valid-before=\"202701010000Z\" {KEY} c\n\
         *@a.example cert-authority {KEY}\n"
    );
    let wrong = format!("ci@a.example valid-after=\"2026\",namespace=\"ä\" {KEY}\n");
    let keys = format!("# revoked\n{KEY} a job\n");
    [lines, wrong, keys].map(|text| joined(&[b"ci@a.example", text.as_bytes()])).into()
}

/// What a registry gives for manifests, lists of them, layers and notes. What is read is written, and read again the
/// same.
pub fn shared_layers(bytes: &[u8]) {
    let _ = layers::is_layer(bytes);
    let _ = layers::is_note(bytes);
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let again: Manifest =
            serde_json::from_slice(&manifest.to_bytes()).expect("what is written is read");
        assert_eq!(again, manifest);
    }
    if let Ok(index) = serde_json::from_slice::<Index>(bytes) {
        let again: Index =
            serde_json::from_slice(&index.to_bytes()).expect("what is written is read");
        assert_eq!(again, index);
    }
}

pub fn shared_layers_seeds() -> Vec<Vec<u8>> {
    // What a test writes.
    const SNAPSHOT: &str = include_str!(
        "../publish/layers/snapshots/imgbuild__publish__layers__document__tests__the_bytes_of_a_known_layer_are_stable.snap"
    );
    let layer = SNAPSHOT.splitn(3, "---\n").last().unwrap_or_default().trim_end();
    let mut note = Manifest::new(layers::CLAIM_TYPE, Vec::new());
    let text = "{\"holder\":\"a\",\"beat\":1,\"over\":false}";
    note.annotations.insert(layers::NOTE.to_owned(), text.to_owned());
    vec![layer.into(), note.to_bytes(), Index::default().to_bytes()]
}

/// The data of Debian's security tracker. What is kept of it can be shown on a terminal.
pub fn tracker(bytes: &[u8]) {
    let [sources, releases] =
        ["openssl", "trixie"].map(|name| BTreeSet::from_iter([name.to_owned()]));
    let Ok(tracker) = Tracker::read(bytes, &sources, &releases) else { return };
    for issue in tracker.issues.values().flatten() {
        let reasons = issue.states.values().filter_map(|state| state.no_dsa.as_ref());
        let texts = reasons.flat_map(|it| [&it.decision, &it.reason]);
        for text in texts.chain(&issue.description).chain([&issue.id]) {
            assert!(!text.contains(char::is_control), "{text:?} would do something to a terminal");
        }
        let versions = issue.states.values().flat_map(|it| it.versions.iter().chain(&it.fixed));
        versions.for_each(|it| assert!(it.bytes().all(|byte| byte.is_ascii_graphic()), "{it:?}"));
    }
}

pub fn tracker_seeds() -> Vec<Vec<u8>> {
    let text = r#"{"bash":{"CVE-2026-1":{"releases":{"sid":{"status":"open","repositories":{"sid":"5.3-1"},"urgency":"low"}}}},
"openssl":{"CVE-2026-1001":{"description":"A double\tfree \u001b[31m","debianbug":1100001,"scope":"remote","releases":{
"trixie":{"status":"resolved","repositories":{"trixie":"3.5.1-1","trixie-security":"3.5.1-1+deb13u1"},
"fixed_version":"3.5.1-1+deb13u1","urgency":"high**","nodsa":"Minor","nodsa_reason":"postponed","next_point_update":true}}}}}"#;
    vec![text.into()]
}
