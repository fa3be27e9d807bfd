//! What does not come from Debian: archives, and images of registries.

use std::path::{Component, Path};

use super::scratch::{Scratch, place};
use super::{joined, parts, tar};
use crate::digest::Digest;
use crate::layer::source::oci::{self, Layout, Wanted};
use crate::layer::source::{Contents, NodeKind, unpack};

/// An archive: as it is, or, if the first byte is 4 or more, a tar archive with right checksums. The rest of the first
/// byte is how many components the names lose.
pub fn archive(bytes: &[u8]) {
    let Some((&form, rest)) = bytes.split_first() else { return };
    let bytes = if form < 4 { rest.to_vec() } else { tar::with_checksums(rest) };
    let file = Scratch::new(&bytes);
    if let Ok(contents) = unpack(&file.path(), usize::from(form % 4), place()) {
        check(&contents);
    }
}

/// Everything is below its directory, and all of its bytes are there.
fn check(contents: &Contents) {
    let length = contents.bytes.metadata().unwrap().len();
    for (path, node) in &contents.nodes {
        let plain = |part| matches!(part, Component::Normal(_));
        assert!(path.components().all(plain), "{} leads out", path.display());
        match &node.kind {
            NodeKind::File { offset, size, .. } => assert!(offset + size <= length),
            NodeKind::Symlink { target } => assert!(!target.is_absolute()),
            NodeKind::Directory => {}
        }
    }
}

pub fn archive_seeds() -> Vec<Vec<u8>> {
    let plain = tar::sample();
    let packed = [
        plain.clone(),
        crate::debian::deb::testing::pack(".gz", &plain),
        crate::debian::deb::testing::pack(".xz", &plain),
        crate::debian::deb::testing::pack(".zst", &plain),
    ];
    let whole = packed.iter().map(|bytes| [&[1], &bytes[..]].concat());
    whole.chain([[&[5], &plain[..]].concat()]).collect()
}

/// Layers of an image, of which `a` is taken. What comes out can be unpacked.
pub fn oci_layers(bytes: &[u8]) {
    let archives = parts(bytes).take(3).map(|part| Scratch::new(&tar::with_checksums(part)));
    let archives: Vec<_> = archives.collect();
    let paths: Vec<_> = archives.iter().map(Scratch::path).collect();
    let mut packed = Vec::new();
    if oci::pack(&paths, Path::new("a"), place(), &mut packed).is_ok() {
        let packed = Scratch::new(&packed);
        let contents = oci::unpack(&packed.path(), place()).expect("what is packed is unpacked");
        check_part(&contents);
    }
}

/// As [`check`], but that a single file has no name.
fn check_part(contents: &Contents) {
    if contents.nodes.keys().next().is_some_and(|path| path.as_os_str().is_empty()) {
        assert_eq!(contents.nodes.len(), 1);
    } else {
        check(contents);
    }
}

pub fn oci_layers_seeds() -> Vec<Vec<u8>> {
    let archive = tar::sample();
    vec![archive.clone(), joined(&[&archive, &archive])]
}

/// A layout as an archive, or an index and a manifest.
pub fn oci_documents(bytes: &[u8]) {
    let Some((&form, rest)) = bytes.split_first() else { return };
    if form % 2 == 1 {
        let file = Scratch::new(&tar::with_checksums(rest));
        if let Ok(Some(layout)) = Layout::open(&file.path()) {
            let digest = Digest::of("content");
            let wanted = Wanted { digest, size: Some(7), is_manifest: false };
            let scratch = super::scratch::directory();
            if layout.has(&digest) && layout.copy(&wanted, scratch.path()).is_ok() {
                let copy = std::fs::read(scratch.path().join(digest.to_string())).unwrap();
                assert_eq!(copy, b"content");
            }
        }
        return;
    }
    let mut documents = parts(rest).map(Scratch::new).collect::<Vec<_>>().into_iter();
    let mut kept = Vec::new();
    let _ = oci::layers(&Digest::of(rest), |wanted| {
        if !wanted.iter().all(|blob| blob.is_manifest) {
            return Ok(Vec::new());
        }
        let document = documents.next().ok_or(())?;
        kept.push(document);
        Ok::<_, ()>(kept.last().map(Scratch::path).into_iter().collect())
    });
}

pub fn oci_documents_seeds() -> Vec<Vec<u8>> {
    let digest = Digest::of("content");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:{digest}","size":7}}]}}"#
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{digest}","size":{},"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
        manifest.len()
    );
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, content) in
        [("oci-layout", "{}".to_owned()), (&format!("blobs/sha256/{digest}"), "content".to_owned())]
    {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    let layout = builder.into_inner().unwrap();
    vec![
        [&[0], manifest.as_bytes()].concat(),
        [vec![0], joined(&[index.as_bytes(), manifest.as_bytes()])].concat(),
        [&[1], &layout[..]].concat(),
    ]
}
