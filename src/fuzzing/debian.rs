//! Packages, and what repositories say of them.

use std::sync::OnceLock;

use pgp::armor::{self, BlockType};

use super::scratch::{self, Scratch};
use super::{joined, parts, tar};
use crate::debian::database::Database;
use crate::debian::database::overrides::{Diversions, load_stat_overrides};
use crate::debian::database::root::Root;
use crate::debian::database::stanza::{Stanza, parse_conffiles};
use crate::debian::database::triggers::parse_directives;
use crate::debian::database::users::Users;
use crate::debian::date::Moment;
use crate::debian::deb::testing::{Builder, ar_member, pack};
use crate::debian::deb::{Deb, Error};
use crate::debian::openpgp::Keyring;
use crate::debian::packages::Universe;
use crate::debian::release::{Expectation, Release};
use crate::debian::testing::{self, NOW, Signer};
use crate::debian::{control, relation, version};

const EXTENSIONS: [&str; 4] = ["", ".gz", ".xz", ".zst"];

/// A package file: as it is, or, if the first byte is 4 or more, made of two archives whose checksums are right.
pub fn deb(bytes: &[u8]) {
    let Some((&form, rest)) = bytes.split_first() else { return };
    if form < 4 {
        return read_deb(rest);
    }
    let extension = EXTENSIONS[usize::from(form % 4)];
    let mut parts = parts(rest);
    let mut file = b"!<arch>\n".to_vec();
    ar_member(&mut file, "debian-binary", b"2.0\n");
    for name in ["control", "data"] {
        let archive = tar::with_checksums(parts.next().unwrap_or_default());
        ar_member(&mut file, &format!("{name}.tar{extension}"), &pack(extension, &archive));
    }
    read_deb(&file);
}

fn read_deb(bytes: &[u8]) {
    let file = Scratch::new(bytes);
    let Ok(deb) = Deb::open(&file.path()) else { return };
    let _ = deb.control_file("control").map(|text| Stanza::parse(text, "x"));
    let _ = deb.control_file("conffiles").map(|text| parse_conffiles(text, "x"));
    let _ = deb.control_file("triggers").map(|text| parse_directives(text, "x"));
    let _ = deb.visit_data(|member, content| {
        assert!(is_inside(&member.path), "{:?} leads out", member.path.escape_ascii().to_string());
        std::io::copy(content, &mut std::io::sink()).map_err(|error| deb.read_error(error))?;
        Ok::<_, Error>(())
    });
}

/// Whether a path is absolute and has no components with a meaning of their own.
fn is_inside(path: &[u8]) -> bool {
    path == b"/."
        || path.strip_prefix(b"/").is_some_and(|rest| {
            rest.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
        })
}

pub fn deb_seeds() -> Vec<Vec<u8>> {
    let package = Builder::new("x", "Conffiles: x\n")
        .control("conffiles", "/etc/x\n")
        .control("triggers", "interest-noawait /usr\n")
        .control("postinst", "#!/bin/sh\n")
        .directory("./", 0o755)
        .directory("./usr/", 0o755)
        .file("./usr/file", 0o644, "content")
        .hardlink("./usr/same", "./usr/file")
        .symlink("./usr/link", "file");
    let whole = EXTENSIONS
        .map(|extension| [vec![0], Builder { extension, ..package.clone() }.bytes()].concat());
    let archives = [&package.control, &package.data].map(|records| {
        let mut bytes = crate::debian::deb::testing::tar(records);
        // What follows the end is not needed.
        bytes.truncate(bytes.len().min(4096));
        bytes
    });
    let forms = (4..8).map(|form| [vec![form], joined(&[&archives[0], &archives[1]])].concat());
    whole.into_iter().chain(forms).collect()
}

/// An index of packages, and everything that is asked of one.
pub fn packages(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut universe = Universe::new();
    let _ = universe.add(0, &text, "amd64", &["a*".to_owned()]);
    let _ = universe.add(1, &text, "amd64", &[]);
    let _ = universe.add_file(&text);
    for (_, package) in universe.packages() {
        assert!(version::validate(package.version).is_ok());
        assert!(!package.path.split('/').any(|part| part == ".."), "{} leads out", package.path);
        for relation in package.requirements().into_iter().chain(package.conflicts()).flatten() {
            for alternative in &relation.alternatives {
                let found = universe.satisfying(alternative, "amd64");
                assert!(found.len() <= universe.packages().count());
            }
        }
    }
    for name in universe.names() {
        assert!(universe.has_name(name));
    }
    for line in text.lines().take(100) {
        let _ = relation::parse_wanted(line);
        if let Some((left, right)) = line.split_once(' ') {
            assert_eq!(version::compare(left, right), version::compare(right, left).reverse());
        }
    }
}

pub fn packages_seeds() -> Vec<Vec<u8>> {
    let text = testing::packages(
        "a 1.0-1; Depends: b (>= 2:1~rc1) | c [!i386], d:any; Provides: v (= 1); Multi-Arch: allowed
         b 2:2.0+b1; Conflicts: a (<< 1); Breaks: c; Priority: required; Essential: yes
         a 1.0-2; Pre-Depends: v",
    );
    vec![text.into_bytes(), b"a (>= 1) | b\n1.0~1 1.0\n".to_vec()]
}

/// The text of a Release file.
pub fn release(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for suite in [Some("trixie"), None] {
        let expectation =
            Expectation { suite, not_before: None, now: Moment::from_unix(u64::from(NOW)) };
        if let Ok(release) = Release::parse(&text, &expectation) {
            let _ = release.indexes("trixie", "main", "amd64");
            let _ = release.flat_index("", "amd64");
        }
    }
    for paragraph in control::paragraphs(&text) {
        control::fields(paragraph).for_each(drop);
    }
    for line in text.lines().take(100) {
        let _ = (
            Moment::parse_release(line),
            Moment::parse_rfc3339(line),
            Moment::parse_snapshot(line),
        );
    }
}

pub fn release_seeds() -> Vec<Vec<u8>> {
    let mut archive = testing::Archive::new();
    archive.publish("trixie", NOW - 100, "");
    let signed = String::from_utf8_lossy(archive.file("dists/trixie/InRelease")).into_owned();
    let text = signed.split("\n\n").nth(1).unwrap_or_default().to_owned();
    let end = text.find("-----BEGIN").unwrap_or(text.len());
    let dates = "2026-11-26T07:33:20Z\n20261126T073320Z\nThu, 26 Nov 2026 07:33:20 UTC\n";
    vec![text.as_bytes()[..end].to_vec(), dates.into()]
}

/// The only text that was ever signed.
const SIGNED: &str = "Suite: trixie\n- dashed\n\nDate: Thu, 26 Nov 2026 07:33:20 UTC";

fn signer() -> &'static (Signer, Keyring) {
    static SIGNER: OnceLock<(Signer, Keyring)> = OnceLock::new();
    SIGNER.get_or_init(|| {
        let signer = Signer::with_subkey(1);
        let keyring = Keyring::parse(&signer.keyring()).unwrap();
        (signer, keyring)
    })
}

/// A text signed in clear: all of it, or, if the first byte is 4 or more, the packets of its signatures.
pub fn inrelease(bytes: &[u8]) {
    let Some((&form, rest)) = bytes.split_first() else { return };
    let message = if form < 4 { rest.to_vec() } else { framed(rest) };
    let (signer, keyring) = signer();
    let now = Moment::from_unix(u64::from(NOW));
    if let Ok(verified) = keyring.verify(&message, &[signer.fingerprint()], now) {
        assert_eq!(verified.text, SIGNED, "a text was never signed");
    }
}

/// [`SIGNED`] with these bytes as the packets of its signatures.
fn framed(packets: &[u8]) -> Vec<u8> {
    struct Packets<'a>(&'a [u8]);
    impl pgp::ser::Serialize for Packets<'_> {
        fn to_writer<W: std::io::Write>(&self, writer: &mut W) -> pgp::errors::Result<()> {
            Ok(writer.write_all(self.0)?)
        }

        fn write_len(&self) -> usize {
            self.0.len()
        }
    }
    let text = SIGNED.replace("\n-", "\n- -");
    let head = format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{text}\n");
    let mut message = head.into_bytes();
    armor::write(&Packets(packets), BlockType::Signature, &mut message, None, true).unwrap();
    message
}

/// The packets of a good signature of [`SIGNED`].
fn good_packets() -> Vec<u8> {
    use pgp::packet::PacketTrait as _;
    let making = testing::Making {
        created: NOW - 10,
        ..testing::Making::of(pgp::packet::SignatureType::Text)
    };
    let signature = testing::signature(&signer().0.subkey, &making, SIGNED);
    let mut packets = Vec::new();
    signature.to_writer_with_header(&mut packets).unwrap();
    packets
}

pub fn inrelease_seeds() -> Vec<Vec<u8>> {
    let packets = good_packets();
    let message = framed(&packets);
    vec![[vec![0], message].concat(), [vec![4], packets].concat()]
}

/// Certificates.
pub fn keyring(bytes: &[u8]) {
    let Ok(keyring) = Keyring::parse(bytes) else { return };
    static MESSAGE: OnceLock<Vec<u8>> = OnceLock::new();
    let message = MESSAGE.get_or_init(|| framed(&good_packets()));
    let listed = [signer().0.fingerprint()];
    if let Ok(verified) = keyring.verify(message, &listed, Moment::from_unix(u64::from(NOW))) {
        assert_eq!(verified.text, SIGNED);
        assert!(keyring.require(&listed).is_ok());
    }
}

pub fn keyring_seeds() -> Vec<Vec<u8>> {
    let certificate = &signer().0.certificate;
    let armoured = certificate.to_armored_bytes(Default::default()).unwrap();
    vec![signer().0.keyring(), Signer::new(2).keyring(), armoured]
}

/// dpkg's database in the tree of an image.
pub fn database(bytes: &[u8]) {
    const FILES: [&str; 7] = [
        "var/lib/dpkg/status",
        "var/lib/dpkg/info/a.list",
        "var/lib/dpkg/diversions",
        "var/lib/dpkg/statoverride",
        "var/lib/dpkg/triggers/File",
        "etc/passwd",
        "etc/group",
    ];
    let directory = scratch::directory();
    let files: Vec<_> = FILES.into_iter().zip(parts(bytes)).collect();
    scratch::put(directory.path(), &files);
    let root = Root::open(directory.path()).unwrap();
    let _ = Diversions::load(&root);
    if let Ok(users) = Users::load(&root) {
        let _ = load_stat_overrides(&root, &users);
    }
    let Ok(mut database) = Database::load(&root) else { return };
    let count = database.status.installed().count();
    let _ = database.triggers.is_interesting(b"/usr/a");
    if Database::create(&root).is_ok() && database.save(&root).is_ok() {
        let again = Database::load(&root).expect("what is written is read");
        assert_eq!(again.status.installed().count(), count, "a package is lost");
    }
}

pub fn database_seeds() -> Vec<Vec<u8>> {
    let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 1\n\
                  Replaces: b (<< 2)\nDescription: a\n b\n\nPackage: b\nStatus: deinstall ok config-files\n\
                  Architecture: all\nVersion: 1\n\n";
    vec![joined(&[
        status.as_bytes(),
        b"/.\n/usr\n/usr/a\n",
        b"/bin/sh\n/bin/sh.distrib\ndash\n",
        b"root #1 4755 /bin/su\n",
        b"/usr a\n/etc b/noawait\n",
        b"root:x:0:0:root:/root:/bin/bash\n",
        b"root:x:0:\n",
    ])]
}
