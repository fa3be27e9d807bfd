//! Uploads, taken apart as `file_upload_multipart` of `PVE/APIServer/AnyEvent.pm` does it: by looking at
//! what has arrived so far. What it would take for something else, this does, too.

use std::fs::File;
use std::io::{self, Read, Write};

use imgbuild::digest::{Digest, Hasher};

use super::wire::Head;

/// A file that arrived. Its bytes are kept only if somebody wants to make guests of it.
#[derive(Clone, Debug, Default)]
pub struct Uploaded {
    pub content: Option<String>,
    pub algorithm: Option<String>,
    pub checksum: Option<String>,
    pub filename: String,
    pub size: u64,
    pub digest: Option<Digest>,
    /// By which identity its bytes are kept.
    pub kept: Option<u64>,
    /// Other parameters, of the query.
    pub query: Vec<(String, String)>,
}

struct Parser<'a> {
    delimiter: Vec<u8>,
    close: Vec<u8>,
    buffer: &'a mut Vec<u8>,
    phase: u8,
    file: Uploaded,
    hasher: Hasher,
    keep: Option<File>,
}

/// Reads an upload with the declared length, as pieces arrive. The inner error is what is answered.
pub fn read(
    head: &Head,
    input: &mut impl Read,
    buffer: &mut Vec<u8>,
    keep: Option<File>,
) -> io::Result<Result<Uploaded, String>> {
    let Some(length) = head.header("Content-Length").and_then(|text| text.parse::<u64>().ok())
    else {
        return Ok(Err("upload without content length header not supported".to_owned()));
    };
    let kind = head.header("Content-Type").unwrap_or_default();
    let Some(boundary) = kind.strip_prefix("multipart/form-data; boundary=") else {
        return Ok(Err(format!("upload 'Content-Type '{kind}' not implemented")));
    };
    let mut parser = Parser {
        delimiter: format!("--{boundary}\r\n").into_bytes(),
        close: format!("--{boundary}--").into_bytes(),
        buffer,
        phase: 0,
        file: Uploaded { query: super::wire::parameters(&head.query), ..Uploaded::default() },
        hasher: Hasher::new(),
        keep,
    };
    let mut arrived = parser.buffer.len() as u64;
    let mut piece = vec![0; 128 * 1024];
    loop {
        if let Err(error) = parser.step() {
            return Ok(Err(error));
        }
        if parser.phase == 100 {
            let mut file = parser.file;
            file.digest = Some(parser.hasher.finish());
            return Ok(Ok(file));
        }
        if arrived >= length {
            return Ok(Err("upload failed".to_owned()));
        }
        let count = input.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        arrived += count as u64;
        parser.buffer.extend_from_slice(&piece[..count]);
    }
}

impl Parser<'_> {
    fn step(&mut self) -> Result<(), String> {
        if self.phase == 0
            && let Some(at) = find(self.buffer, &self.delimiter)
        {
            self.buffer.drain(..at);
            self.phase = 1;
        }
        if self.phase == 1 {
            self.file.content = self.field("content")?.or(self.file.content.take());
            self.file.algorithm = self.field("checksum-algorithm")?.or(self.file.algorithm.take());
            self.file.checksum = self.field("checksum")?.or(self.file.checksum.take());
            self.file_head()?;
        }
        if self.phase == 2 {
            self.data();
        }
        Ok(())
    }

    /// A field, only when it and the delimiter behind it are there, and it is the first one left.
    fn field(&mut self, name: &str) -> Result<Option<String>, String> {
        let head = [
            &self.delimiter[..],
            format!("Content-Disposition: form-data; name=\"{name}\"").as_bytes(),
        ]
        .concat();
        if !self.buffer.starts_with(&head) {
            return Ok(None);
        }
        let Some(next) = find(&self.buffer[head.len()..], &self.delimiter) else { return Ok(None) };
        let part = self.buffer[head.len()..head.len() + next].to_vec();
        let Some(blank) = find(&part, b"\r\n\r\n") else { return Err("no value".to_owned()) };
        self.buffer.drain(..head.len() + next);
        let value = String::from_utf8_lossy(&part[blank + 4..]).trim().to_owned();
        Ok(Some(value))
    }

    fn file_head(&mut self) -> Result<(), String> {
        let Some(rest) = self.buffer.strip_prefix(&self.delimiter[..]) else { return Ok(()) };
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        // The real one waits for more here and fails at the end of the request.
        let Some(names) = line.strip_prefix("Content-Disposition: form-data; name=\"") else {
            return Ok(());
        };
        let Some((field, rest)) = names.split_once("\"; filename=\"") else { return Ok(()) };
        let Some((filename, _)) = rest.split_once('"') else { return Ok(()) };
        if field != "filename" {
            return Err(format!("wrong field name '{field}' for file upload, expected 'filename'"));
        }
        self.file.filename = filename.trim().to_owned();
        let head = self.delimiter.len()
            + "Content-Disposition: form-data; name=\"\"; filename=\"\"".len()
            + field.len()
            + filename.len();
        self.buffer.drain(..head);
        // The trap: when the blank line has not arrived yet, nothing is removed, and the rest of the head
        // becomes part of the file.
        if let Some(blank) = find(self.buffer, b"\r\n\r\n") {
            self.buffer.drain(..blank + 4);
        }
        self.phase = 2;
        Ok(())
    }

    fn data(&mut self) {
        let reserve = self.close.len() + 4;
        if let Some(at) = find(self.buffer, &self.close) {
            let mut end = at;
            if self.buffer[..end].ends_with(b"\r\n") {
                end -= 2;
            }
            self.take(end);
            self.buffer.clear();
            self.phase = 100;
        } else if self.buffer.len() > reserve {
            self.take(self.buffer.len() - reserve);
        }
    }

    fn take(&mut self, count: usize) {
        self.hasher.update(&self.buffer[..count]);
        if let Some(keep) = &mut self.keep {
            keep.write_all(&self.buffer[..count]).expect("room for uploaded files");
        }
        self.file.size += count as u64;
        self.buffer.drain(..count);
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its pieces one by one.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    fn upload(pieces: Vec<&str>) -> Result<Uploaded, String> {
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let head = Head {
            headers: vec![
                ("Content-Length".to_owned(), length.to_string()),
                ("Content-Type".to_owned(), "multipart/form-data; boundary=B".to_owned()),
            ],
            ..Head::default()
        };
        let pieces = pieces.into_iter().map(|piece| piece.as_bytes().to_vec()).collect();
        read(&head, &mut Pieces(pieces), &mut Vec::new(), None)
            .map_err(|error| error.to_string())?
    }

    const FIELDS: &str = "--B\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\nimport\r\n\
        --B\r\nContent-Disposition: form-data; name=\"checksum-algorithm\"\r\n\r\nsha256\r\n\
        --B\r\nContent-Disposition: form-data; name=\"checksum\"\r\n\r\nabc\r\n";
    const FILE: &str =
        "--B\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"x.qcow2\"\r\n\r\n";

    #[test]
    fn the_fake_has_the_traps_of_the_real_one() {
        let good = upload(vec![&format!("{FIELDS}{FILE}hello\r\n--B--\r\n")]).unwrap();
        assert_eq!((good.size, good.filename.as_str()), (5, "x.qcow2"));
        assert_eq!(good.checksum.as_deref(), Some("abc"));
        // The head of the file's part in two pieces.
        let cut = FILE.len() - 4;
        let first = format!("{FIELDS}{}", &FILE[..cut]);
        let second = format!("{}hello\r\n--B--\r\n", &FILE[cut..]);
        let leaked = upload(vec![&first, &second]).unwrap();
        assert_eq!(leaked.size, 9);
        // Content-Type before Content-Disposition, and lower case.
        for file in [
            FILE.replace("Content-Disp", "Content-Type: x\r\nContent-Disp"),
            FILE.replace("Content-Disposition", "content-disposition"),
            FILE.replace("name=\"filename\"; ", "name=\"file\"; "),
        ] {
            assert!(upload(vec![&format!("{FIELDS}{file}hello\r\n--B--\r\n")]).is_err(), "{file}");
        }
        // The checksum before its algorithm.
        let fields = FIELDS
            .replace("checksum-algorithm", "CHECKSUM")
            .replace("\"checksum\"", "\"checksum-algorithm\"");
        let wrong = fields.replace("CHECKSUM", "checksum");
        assert!(upload(vec![&format!("{wrong}{FILE}hello\r\n--B--\r\n")]).is_err());
    }
}
