//! Private keys, wherever they are.
//!
//! Keys are recognised by their text form: the encapsulation boundary of RFC 7468 and its relatives
//! (`-----BEGIN … PRIVATE KEY-----`, also OpenSSH's and OpenPGP's) followed by a line of base64 or a
//! header. Programs that read keys contain the boundary too, but not what follows. A key inside a
//! compressed file is not seen.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::memmem::{self, Finder};

use super::{Check, Objections, Rule};
use crate::layer::archive::{Archive, IndexedEntry};
use crate::layer::entry::Kind;
use crate::lint as registry;

pub(super) const RULES: &[Rule] =
    &[Rule { lint: &registry::PRIVATE_KEY, check: Check::Layer(check) }];

/// Files that contain keys which are no secret, by path up to a version of digits and dots, or all
/// below a directory: the known keys that GnuTLS tests its algorithms with
/// (`lib/crypto-selftests-pk.c`), and the examples in the documentation of cloud-init, puma and
/// Moodle's copy of php-jwt.
const FIXTURES: [&str; 5] = [
    "usr/lib/x86_64-linux-gnu/libgnutls.so.",
    "usr/share/doc/cloud-init/examples/cloud-config-ssh-keys.txt",
    "usr/share/doc/cloud-init/examples/cloud-config.txt",
    "usr/share/doc/puma/examples/",
    "usr/share/moodle/public/lib/php-jwt/README.md",
];

/// What is searched for.
const MARK: &[u8] = b"PRIVATE KEY";

/// What a boundary begins with, and the most that stands between that and the mark: the longest
/// known label is `ENCRYPTED `.
const BEGIN: &[u8] = b"-----BEGIN ";
const LABEL: usize = 24;

/// Bytes looked at after a mark.
const AFTER: usize = 256;

/// How many base64 characters make a line of a key: RFC 7468 has 64 a line. A key is longer than one
/// line, an example with `...` is not.
const LINE: usize = 40;

/// Bytes read at a time, and those kept from one time to the next.
const CHUNK: usize = 1 << 20;
const OVERLAP: usize = BEGIN.len() + LABEL + MARK.len() + AFTER;

fn check(layer: &Archive, objections: &mut Objections) -> io::Result<()> {
    let members = layer.index.entries();
    let mut last = None;
    scan(layer, |place, window, mark| {
        let Some(member) = member_at(members, place) else { return };
        if is_fixture(&member.entry.path) {
            return;
        }
        let content = content(member);
        // Nothing beyond the file belongs to it: neither the padding nor the next member.
        let window_start = place - mark as u64;
        let begin = content.start.saturating_sub(window_start) as usize;
        let end = (content.end - window_start).min(window.len() as u64) as usize;
        if last != Some(content.start) && is_key(&window[begin..end], mark - begin) {
            objections.add(&member.entry.path, "is or contains a private key");
            last = Some(content.start);
        }
    })
}

fn is_fixture(path: &Path) -> bool {
    let is_version = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let path = path.to_str().unwrap_or_default();
    FIXTURES.iter().any(|fixture| {
        path.strip_prefix(fixture).is_some_and(|rest| fixture.ends_with('/') || is_version(rest))
    })
}

/// Calls `found` for every mark in the archive, with its position there, the bytes around it and its
/// position in those.
fn scan(layer: &Archive, mut found: impl FnMut(u64, &[u8], usize)) -> io::Result<()> {
    let length = layer.file.metadata()?.len();
    let finder = Finder::new(MARK);
    let mut window = vec![0; CHUNK];
    let mut start = 0;
    let mut done = 0;
    while start < length {
        let size = (length - start).min(CHUNK as u64) as usize;
        let bytes = &mut window[..size];
        layer.file.read_exact_at(bytes, start)?;
        let is_last = start + size as u64 == length;
        // A mark too near to the end of the window is left to the next, which overlaps.
        let limit = if is_last { size } else { size - AFTER };
        for mark in finder.find_iter(bytes) {
            let place = start + mark as u64;
            if place >= done && mark < limit {
                found(place, bytes, mark);
            }
        }
        done = start + limit as u64;
        if is_last {
            break;
        }
        start += (size - OVERLAP) as u64;
    }
    Ok(())
}

/// The file whose content `place` is in.
fn member_at(members: &[IndexedEntry], place: u64) -> Option<&IndexedEntry> {
    let after = members.partition_point(|member| member.header_offset <= place);
    let member = &members[after.checked_sub(1)?];
    content(member).contains(&place).then_some(member)
}

fn content(member: &IndexedEntry) -> Range<u64> {
    match member.entry.kind {
        Kind::File { size } => member.data_offset..member.data_offset + size,
        _ => member.data_offset..member.data_offset,
    }
}

/// Whether the [`MARK`] at `mark` in `text` is in the first line of a private key.
fn is_key(text: &[u8], mark: usize) -> bool {
    let before = &text[mark.saturating_sub(BEGIN.len() + LABEL)..mark];
    let Some(begin) = memmem::rfind(before, BEGIN) else { return false };
    let label = &before[begin + BEGIN.len()..];
    let after = &text[mark + MARK.len()..text.len().min(mark + MARK.len() + AFTER)];
    let after = after.strip_prefix(b" BLOCK").unwrap_or(after);
    let is_label = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ';
    label.iter().all(is_label) && after.strip_prefix(b"-----").is_some_and(begins_key)
}

/// Whether `text`, which follows a boundary, begins with a line of a key. Line feeds may be written
/// as `\n`, as in JSON, and lines may be indented, as in YAML.
fn begins_key(text: &[u8]) -> bool {
    let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
    let text = &text[spaces..];
    let text = match text.strip_prefix(b"\n").or_else(|| text.strip_prefix(b"\\n")) {
        Some(text) => text.trim_ascii_start(),
        None => return false,
    };
    // Header fields of RFC 1421 keys, and of OpenPGP's armor (RFC 9580, 6.2.2).
    let headers: [&[u8]; 5] = [b"Proc-Type:", b"DEK-Info:", b"Version:", b"Comment:", b"Hash:"];
    let is_base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    headers.iter().any(|header| text.starts_with(header))
        || text.iter().take_while(is_base64).count() >= LINE
}
