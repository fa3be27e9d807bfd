//! Archives in memory, right and wrong.

use std::io::Write as _;

use super::*;
use crate::debian::testing::{Archive, NOW, URL, packages, release_date, xz};

const INDEX: &str = "dists/test/main/binary-amd64/Packages";

fn now() -> Moment {
    Moment::from_unix(u64::from(NOW))
}

fn read(archive: &Archive) -> Result<Contents, Error> {
    archive.repository("test").read(archive, "amd64", None, now())
}

/// What is wrong with each URL of an index.
fn attempts(archive: &Archive) -> Vec<String> {
    match read(archive) {
        Err(Error::Index { attempts, .. }) => {
            attempts.iter().map(|attempt| attempt.source.to_string()).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// An archive whose Release file lists `files` (name, content) of the index.
fn listing(files: &[(&str, &[u8])]) -> Archive {
    let mut archive = Archive::new();
    let mut release = format!(
        "Suite: test\nDate: {}\nArchitectures: amd64\nComponents: main\nSHA256:",
        release_date(NOW)
    );
    for (extension, content) in files {
        let (digest, size) = (Digest::of(content), content.len());
        let line = format!("\n {digest} {size} main/binary-amd64/Packages{extension}");
        release.push_str(&line);
        archive.put(&format!("{INDEX}{extension}"), content.to_vec());
    }
    archive.sign("test", &release);
    archive
}

#[test]
fn indexes_are_read_by_their_hash() {
    let mut archive = Archive::new();
    let text = packages("a 1");
    archive.publish("test", NOW, &text);
    assert_eq!(read(&archive).unwrap().indexes, [text]);
    let asked = archive.asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].starts_with(&format!("{URL}/dists/test/main/binary-amd64/by-hash/SHA256/")));
}

#[test]
fn indexes_may_be_packed_in_any_way() {
    let text = packages("a 1");
    let plain = ("", text.as_bytes());
    let packed = xz(text.as_bytes());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    for files in
        [&[plain][..], &[plain, (".gz", &gzip)], &[plain, (".gz", b"bad"), (".xz", &packed)]]
    {
        assert_eq!(read(&listing(files)).unwrap().indexes[0], text);
    }
}

#[test]
fn indexes_that_are_not_those_of_the_release_are_refused() {
    let text = packages("a 1");
    let packed = xz(text.as_bytes());
    let path = format!("{INDEX}.xz");
    let archive = |content: Vec<u8>| {
        let mut archive = listing(&[("", text.as_bytes()), (".xz", &packed)]);
        archive.put(&path, content);
        archive
    };
    let shorter = attempts(&archive(packed[1..].to_vec()));
    assert!(shorter[0].contains("bytes, but the Release file says"), "{shorter:?}");
    let longer = attempts(&archive([&packed[..], b"x"].concat()));
    assert!(longer[0].contains("too long"), "{longer:?}");
    let mut changed = packed.clone();
    changed[20] ^= 1;
    let changed = attempts(&archive(changed));
    assert!(changed[0].contains("its SHA-256 is"), "{changed:?}");
}

#[test]
fn packed_indexes_never_unpack_to_more_than_they_should() {
    let bomb = xz(&vec![b'a'; 1 << 20]);
    let found = attempts(&listing(&[("", b"aaaa"), (".xz", &bomb)]));
    assert_eq!(found, ["it has 5 bytes, but the Release file says 4 bytes"]);
    let found = attempts(&listing(&[("", b"aaaa"), (".xz", &xz(b"aaab"))]));
    assert!(found[0].starts_with("its SHA-256 is"), "{found:?}");
    let found = attempts(&listing(&[("", b"aaaa"), (".xz", b"not xz")]));
    assert_eq!(found, ["it cannot be unpacked"]);
    let found = attempts(&listing(&[("", b"\xff")]));
    assert_eq!(found, ["it is not UTF-8"]);
}

#[test]
fn what_a_release_lacks_is_named() {
    let archive = listing(&[("", b"")]);
    let mut repository = archive.repository("test");
    repository.components = vec!["contrib".to_owned()];
    let error = repository.read(&archive, "amd64", None, now()).unwrap_err();
    let Error::Content { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "`test` has no component `contrib`, only main");
    let error = archive.repository("test").read(&archive, "arm64", None, now()).unwrap_err();
    let Error::Content { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "`test` has no packages for arm64, only for amd64");
}
