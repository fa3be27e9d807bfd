//! Uploading a file to a storage.
//!
//! Proxmox takes `multipart/form-data` apart with regular expressions over what has arrived so far
//! (`file_upload_multipart` in `PVE/APIServer/AnyEvent.pm` of pve-http-server), and not all that the format
//! allows comes through:
//!
//! - The length must be known: no chunks.
//! - The fields come in the order `content`, `checksum-algorithm`, `checksum`, file. Others, or another
//!   order, are an error, or get lost and leave bytes of the next field at the head of the file.
//! - The file is the field `filename`, and `Content-Disposition` is its first header, in that spelling.
//! - When the head of the file's part arrives in two pieces, the second gets into the file. So everything
//!   before the file goes out as the beginning of one TLS record, together with the first bytes of the file,
//!   and the part has no other header.
//!
//! The task that follows compares the checksum of what arrived, so that none of this can go wrong unseen.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::time::Duration;

use super::client::Client;
use super::error::{Error, Method, Reason};
use super::http::{Failure, Send};
use super::names::{NodeName, StorageName};
use super::storage::{Content, path};
use super::task::Upid;
use crate::digest::{Digest, Hasher};

/// The longest record of TLS. The preamble and what fits behind it of the file are sent as one.
const RECORD: usize = 16 * 1024;
/// How much of the file is in memory at once.
const PIECE: usize = 256 * 1024;
/// How long a piece may take, and the answer after the last: the server has then to start the task.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest name (`maxLength` of `filename` in `PVE/API2/Storage/Status.pm`), in bytes.
const NAME_LIMIT: usize = 255;

/// A file to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload<'a> {
    /// The node whose storage it is. Best the one that the client talks to: otherwise it copies the file there
    /// (`PVE/API2/Storage/Status.pm`).
    pub node: &'a NodeName,
    /// The storage. It must take `content`.
    pub storage: &'a StorageName,
    /// [`Content::Import`] for a disk, [`Content::Template`] for a template.
    pub content: Content,
    /// Its name there. A file of that name is overwritten without a word, so names should tell the content.
    pub name: &'a str,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Its SHA-256.
    pub digest: Digest,
}

impl Client {
    /// Uploads what `file` yields, and gives the task that checks it and puts it in its place. Keeps only
    /// small pieces in memory. `progress` gets the number of bytes that were sent so far, every few seconds or
    /// more often; when it breaks off, the upload ends and the server has nothing.
    ///
    /// `POST /nodes/{node}/storage/{storage}/upload`, which needs `Datastore.AllocateTemplate`. The server
    /// keeps what it gets in `/var/tmp` until the task is done, so it needs the space twice. It closes a
    /// connection over which nothing came for 5 s (`PVE/APIServer/AnyEvent.pm`), so `file` must not be slow.
    ///
    /// # Errors
    ///
    /// Before anything is sent, [`Reason::Parameters`] for a name that Proxmox would change or not take. While
    /// sending, [`Reason::Source`] when the file has not the length that was said, or cannot be read; the
    /// server has nothing then. [`Reason::Stopped`] when `progress` broke off. That the bytes have another digest shows in the task.
    pub fn upload(
        &self,
        upload: &Upload<'_>,
        file: &mut dyn Read,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Upid, Error> {
        let path = path(upload.node, upload.storage).and("upload");
        if let Err(why) = check_name(upload.content, upload.name) {
            let reason = Reason::Parameters([("filename".to_owned(), why.clone())].into());
            let message = format!("`{}` cannot be uploaded", upload.name);
            return Err(self.error(Method::Post, &path, reason, message));
        }
        let boundary = boundary(upload);
        let preamble = preamble(upload, &boundary);
        let end = format!("\r\n--{boundary}--\r\n");
        let length = (preamble.len() + end.len()) as u64 + upload.size_bytes;
        let mut head = self.head(Method::Post, &path.target());
        head += &format!(
            "Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {length}\r\n\r\n"
        );
        let stopped = Cell::new(false);
        let sent = Cell::new(0);
        let progress = RefCell::new(progress);
        let report = || match (progress.borrow_mut())(sent.get()) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                stopped.set(true);
                Err(io::Error::other("stopped before the end"))
            }
        };
        let answer = self.connection(PATIENCE).and_then(|connection| {
            let mut content = |send: &mut Send<'_>| {
                pieces(upload, preamble.as_bytes(), end.as_bytes(), file, send, &mut |count| {
                    sent.set(count);
                    report()
                })
            };
            connection.stream(head.as_bytes(), &mut content, self.pace().stall, &mut || report())
        });
        let answer = answer.map_err(|failure| match failure {
            Failure::Source(why) if stopped.get() => {
                self.error(Method::Post, &path, Reason::Stopped, why.to_string())
            }
            failure => self.broken(Method::Post, &path, &failure),
        })?;
        let data = self.judge(Method::Post, &path, &answer)?;
        self.data(Method::Post, &path, data)
    }
}

/// What separates the parts. It must not be in the file; one in 2¹²⁸ files has it, and then the checksum
/// fails.
fn boundary(upload: &Upload<'_>) -> String {
    let mut hasher = Hasher::new();
    hasher.field("imgbuild upload");
    hasher.field(upload.name);
    hasher.field(upload.digest.to_string());
    format!("imgbuild-{}", &hasher.finish().to_string()[..32])
}

/// Everything before the first byte of the file.
fn preamble(upload: &Upload<'_>, boundary: &str) -> String {
    let field = |name: &str, value: &str| {
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        )
    };
    field("content", upload.content.name())
        + &field("checksum-algorithm", "sha256")
        + &field("checksum", &upload.digest.to_string())
        + &format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"{}\"\r\n\r\n",
            upload.name
        )
}

/// Sends the preamble with the beginning of the file, the rest of the file, and `end`.
fn pieces(
    upload: &Upload<'_>,
    preamble: &[u8],
    end: &[u8],
    file: &mut dyn Read,
    send: &mut Send<'_>,
    progress: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut sent = 0;
    let mut piece = Vec::with_capacity(PIECE);
    piece.extend_from_slice(preamble);
    let mut limit = RECORD;
    loop {
        let before = piece.len();
        let room = (limit - before) as u64;
        let left = upload.size_bytes - sent;
        let count = file.take(room.min(left)).read_to_end(&mut piece)? as u64;
        if count < room.min(left) {
            return Err(io::Error::other(format!(
                "the file ends after {} bytes instead of {}",
                sent + count,
                upload.size_bytes
            )));
        }
        sent += count;
        if sent == upload.size_bytes {
            break;
        }
        send(&piece)?;
        progress(sent)?;
        piece.clear();
        limit = PIECE;
    }
    if file.take(1).read_to_end(&mut Vec::new())? > 0 {
        return Err(io::Error::other(format!(
            "the file goes on after {} bytes",
            upload.size_bytes
        )));
    }
    piece.extend_from_slice(end);
    send(&piece)?;
    progress(sent)
}

/// Whether Proxmox takes `name` as it is (`normalize_content_filename` and the patterns of
/// `PVE/Storage.pm`): it replaces other characters by `_`, and an unknown ending is no volume.
fn check_name(content: Content, name: &str) -> Result<(), String> {
    let endings: &[&str] = match content {
        Content::Import => &[".qcow2", ".raw"],
        Content::Template => &[".tar.zst"],
        Content::Images | Content::Root => {
            return Err("only images to import and templates are uploaded".to_owned());
        }
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !name.bytes().all(plain) {
        return Err(
            "Proxmox would change the name: expected letters, digits, `_`, `.`, `-`".to_owned()
        );
    }
    if name.len() > NAME_LIMIT {
        return Err(format!("the name is longer than {NAME_LIMIT} bytes"));
    }
    let stem = endings.iter().find_map(|ending| name.strip_suffix(ending));
    match stem {
        Some(stem) if stem.starts_with(|first: char| first.is_ascii_alphanumeric()) => Ok(()),
        Some(_) => Err("the name does not begin with a letter or a digit".to_owned()),
        None => Err(format!("the name does not end with {}", endings.join(" or "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(size: u64, given: u64) -> io::Result<(Vec<usize>, Vec<u64>)> {
        let upload = Upload {
            node: &"pve".parse().unwrap(),
            storage: &"local".parse().unwrap(),
            content: Content::Import,
            name: "x.qcow2",
            size_bytes: size,
            digest: Digest::of("x"),
        };
        let (mut sizes, mut reports) = (Vec::new(), Vec::new());
        pieces(
            &upload,
            b"head",
            b"end",
            &mut io::repeat(7).take(given),
            &mut |piece| {
                sizes.push(piece.len());
                Ok(())
            },
            &mut |sent| {
                reports.push(sent);
                Ok(())
            },
        )?;
        Ok((sizes, reports))
    }

    #[test]
    fn the_preamble_goes_out_with_the_first_bytes_of_the_file() {
        assert_eq!(run(0, 0).unwrap(), (vec![7], vec![0]));
        assert_eq!(run(10, 10).unwrap(), (vec![17], vec![10]));
        let first = RECORD - 4;
        let (sizes, reports) = run(1_000_000, 1_000_000).unwrap();
        assert_eq!(sizes[..2], [RECORD, PIECE]);
        assert_eq!(reports[0], first as u64);
        assert_eq!(sizes.iter().sum::<usize>(), 1_000_000 + 4 + 3);
        assert_eq!(reports.last(), Some(&1_000_000));
    }

    #[test]
    fn a_file_of_another_length_is_noticed() {
        for size in [10, RECORD as u64, 600_000] {
            assert!(run(size, size - 1).unwrap_err().to_string().contains("ends after"));
            assert!(run(size, size + 1).unwrap_err().to_string().contains("goes on"));
        }
    }

    #[test]
    fn names_that_proxmox_would_change_are_refused() {
        assert!(check_name(Content::Import, "imgbuild-galera-1.0-0123.qcow2").is_ok());
        assert!(check_name(Content::Template, "imgbuild-galera-1.0-0123.tar.zst").is_ok());
        let long = format!("{}.qcow2", "a".repeat(250));
        for name in [
            "",
            "x",
            "x.QCOW2",
            "x.qcow2.zst",
            "a b.qcow2",
            "a+b.qcow2",
            "a~b.qcow2",
            "a:b.qcow2",
            "../x.qcow2",
            "a/x.qcow2",
            ".qcow2",
            "-x.qcow2",
            "x.tar.zst",
            "ä.qcow2",
            "x\".qcow2",
            "x\r\n.qcow2",
            &long,
        ] {
            assert!(check_name(Content::Import, name).is_err(), "{name}");
        }
        assert!(check_name(Content::Images, "x.qcow2").is_err());
    }
}
