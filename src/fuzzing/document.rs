//! Documents: records on guests, locks, manifests, definitions.

use super::scratch::{self, Scratch};
use super::{joined, parts};
use crate::artifact::manifest::Manifest;
use crate::definition::Project;
use crate::lock::Lock;
use crate::swap::{Lease, Reading, Record};

/// The description of a guest, with a record or a lease. What is read is written, and read again the same.
pub fn record(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Reading::Record(first) = Record::read(&text)
        && let Ok(written) = first.describe(&text)
    {
        let Reading::Record(again) = Record::read(&written) else {
            panic!("what is written is not read: {written}")
        };
        // A reason becomes one line when it is written.
        assert_eq!(Record { reason: None, ..*again.clone() }, Record { reason: None, ..*first });
        let twice = again.describe(&written).expect("it was short enough");
        assert_eq!(Record::read(&twice), Reading::Record(again));
    }
    if let Ok(Some(lease)) = Lease::read(&text) {
        let written = Lease::describe(Some(&lease), &text);
        assert_eq!(Lease::read(&written), Ok(Some(lease)));
    }
}

pub fn record_seeds() -> Vec<Vec<u8>> {
    let digest = crate::digest::Digest::of("image");
    let record = format!(
        "What people say.\n\nsql1 of campus: imgbuild wrote what follows, change nothing in it.\n\n~~~toml\n\
         # imgbuild record\nschema = 1\nsite = \"campus\"\nnode = \"sql1\"\nrole = \"galera\"\nimage = \"{digest}\"\n\
         artifact = \"imgbuild-galera-1.0.0-0123456789ab.qcow2\"\ngeneration = 2\nphase = \"failed\"\n\
         since = \"2027-01-15T08:00:00Z\"\norigin = \"swap\"\nvolumes = [\"mysql\"]\n\
         reason = \"not ready\"\nreplaces = 4000\nreplaces_image = \"{digest}\"\nsuccessor = 4001\n# end of record\n~~~\n"
    );
    let lease = "~~~toml\n# imgbuild lease\nschema = 1\nwho = \"a@b\"\nprocess = 1\ntoken = \"0\"\npurpose = \"swap\"\n\
                 since = \"2027-01-15T08:00:00Z\"\nexpires = \"2027-01-15T08:00:00Z\"\n# end of lease\n~~~\n";
    vec![record.into_bytes(), lease.into()]
}

/// A lock. What is read is written, and read again the same.
pub fn lock(bytes: &[u8]) {
    let Ok(lock) = Lock::read(&Scratch::new(bytes).path()) else { return };
    let text = lock.text();
    let again = Lock::read(&Scratch::new(text.as_bytes()).path()).expect("what is written is read");
    assert_eq!(again, lock);
    assert_eq!(again.text(), text);
}

pub fn lock_seeds() -> Vec<Vec<u8>> {
    let digest = crate::digest::Digest::of("x");
    let text = format!(
        r#"version = 1
snapshot = "20261126T073320Z"

[[repository]]
image = "base"
name = "trixie"
suite = "trixie"
date = "2026-11-21T09:15:44Z"
release = "{digest}"
keyring = "{digest}"

[image.base]
wants = "{digest}"
packages = [
  {{ name = "a", version = "1:1-1", architecture = "amd64", repository = "trixie", path = "pool/a.deb", size = 1, sha256 = "{digest}", snapshot = "20261126T073320Z" }},
  {{ name = "b", version = "1", architecture = "all", source = "s", size = 1, sha256 = "{digest}" }},
]
sources = [
  {{ name = "s", type = "package", url = "https://e.org/s.deb", size = 1, sha256 = "{digest}" }},
]
"#
    );
    let short = text.split("sources").next().unwrap_or_default().to_owned();
    vec![
        text.into_bytes(),
        short.into_bytes(),
        b"version = 1\nsnapshot = \"20261126T073320Z\"\n".into(),
    ]
}

/// A manifest. What is read is written, and read again the same.
pub fn manifest(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(manifest) = Manifest::from_json(&text) else { return };
    let written = manifest.to_json();
    let again = Manifest::from_json(&written).expect("what is written is read");
    assert_eq!(again.to_json(), written);
}

pub fn manifest_seeds() -> Vec<Vec<u8>> {
    // What a test writes.
    const SNAPSHOT: &str = include_str!(
        "../artifact/snapshots/imgbuild__artifact__manifest__tests__the_text_of_a_manifest_is_stable.snap"
    );
    vec![SNAPSHOT.splitn(3, "---\n").last().unwrap_or_default().into()]
}

/// An image's definition, an overlay, and a template that the image has. What is wrong can be shown where it stands.
pub fn definition(bytes: &[u8]) {
    const FILES: [&str; 3] =
        ["images/base/image.toml", "overlays/s/overlay.toml", "images/base/files/etc/x.hbs"];
    let directory = scratch::directory();
    let files: Vec<_> = FILES.into_iter().zip(parts(bytes)).collect();
    scratch::put(directory.path(), &files);
    let project = match Project::load(directory.path()) {
        Ok(project) => project,
        Err(errors) => return shown(errors),
    };
    for image in project.images() {
        for site in [None, Some("s")] {
            if let Err(errors) = project.plan(image.name.as_str(), site) {
                shown(errors);
            }
        }
    }
}

/// Shows an error as the command line does.
pub(super) fn shown(error: impl miette::Diagnostic + Send + Sync + 'static) {
    drop(format!("{:?}", miette::Report::new(error)));
}

pub fn definition_seeds() -> Vec<Vec<u8>> {
    let image = r#"summary = "x"
version = "1.0.0"
role = true
[debian]
architecture = "amd64"
[[debian.repository]]
name = "trixie"
url = "http://deb.debian.org/debian"
suite = "trixie"
components = ["main"]
keyring = "keys/x.asc"
signed_by = ["4D64FEC119C2029067D6E791F8D2585B8783D481"]
[packages]
install = ["haproxy (>= 3.0)", "a | b"]
[users.a]
uid = 801
[parameters.port]
type = "port"
default = 80
doc = "x"
[parameters.list]
type = "list"
items = { type = "record", fields = { a = { type = "hostname" }, b = { type = "address" } } }
default = []
doc = "x"
[files."/etc/x"]
template = true
[[state]]
name = "data"
path = "/var/lib/x"
size = "1 GiB"
owner = "a"
group = "a"
[[run]]
command = ["/bin/true"]
[health]
command = ["/bin/true"]
"#;
    let overlay = "summary = \"y\"\n[roles.base.parameters]\nport = 81\n[nodes.n1]\nrole = \"base\"\naddress = \"10.0.0.1/24\"\n";
    vec![joined(&[image.as_bytes(), overlay.as_bytes(), b"{{port}} {{#each list}}{{a}}{{/each}}"])]
}
