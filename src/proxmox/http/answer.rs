//! Reading an answer.

use std::io::{self, Read};
use std::time::SystemTime;

use super::Failure;

/// The longest head that is read. Proxmox's own limit for requests is 8 KiB
/// (`PVE/APIServer/AnyEvent.pm`).
const HEAD_LIMIT: usize = 64 * 1024;
/// The most headers that are read.
const HEADER_LIMIT: usize = 64;
/// The longest content that is read: all resources of a large cluster are a few megabytes.
const CONTENT_LIMIT: u64 = 64 * 1024 * 1024;

/// An answer.
#[derive(Debug)]
pub(in crate::proxmox) struct Answer {
    /// Its status.
    pub(in crate::proxmox) status: u16,
    /// What stands behind the status: Proxmox's message, or the name of the status.
    pub(in crate::proxmox) phrase: String,
    /// The server's clock when it answered, to the second.
    pub(in crate::proxmox) date: Option<SystemTime>,
    /// Its content.
    pub(in crate::proxmox) content: Vec<u8>,
    /// Whether the connection can be used again.
    pub(super) reusable: bool,
}

/// How the end of the content is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// So many bytes.
    Known(u64),
    /// In chunks that tell their length.
    Chunked,
    /// It ends with the connection.
    UntilClosed,
}

struct Head {
    answer: Answer,
    length: Length,
    /// How many bytes it takes.
    size: usize,
}

/// Whether `stream` begins with an answer, which is taken off it.
#[cfg(any(test, fuzzing))]
pub(crate) fn is_answer(stream: &mut impl Read) -> bool {
    read(stream).is_ok()
}

/// Reads an answer from `stream`.
pub(super) fn read(stream: &mut impl Read) -> Result<Answer, Failure> {
    let mut buffer = Vec::with_capacity(8 * 1024);
    let head = loop {
        if let Some(head) = parse(&buffer)? {
            // 100 and its like come before the answer.
            if head.answer.status >= 200 {
                break head;
            }
            buffer.drain(..head.size);
            continue;
        }
        if buffer.len() > HEAD_LIMIT {
            return Err(Failure::Garbled("the head of the answer does not end".to_owned()));
        }
        if more(stream, &mut buffer)? == 0 {
            return Err(Failure::after(io::ErrorKind::UnexpectedEof.into()));
        }
    };
    let Head { mut answer, length, size } = head;
    buffer.drain(..size);
    match length {
        Length::Known(length) => known(stream, &mut buffer, length)?,
        Length::Chunked => buffer = chunks(stream, buffer)?,
        Length::UntilClosed => {
            until_closed(stream, &mut buffer)?;
            answer.reusable = false;
        }
    }
    answer.content = buffer;
    Ok(answer)
}

/// Reads once, and adds what came.
fn more(stream: &mut impl Read, buffer: &mut Vec<u8>) -> Result<usize, Failure> {
    let mut piece = [0; 8 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(count) => {
                buffer.extend_from_slice(&piece[..count]);
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::after(error)),
        }
    }
}

fn known(stream: &mut impl Read, buffer: &mut Vec<u8>, length: u64) -> Result<(), Failure> {
    if length > CONTENT_LIMIT {
        return Err(Failure::Garbled(format!("the answer is too long: {length} bytes")));
    }
    while (buffer.len() as u64) < length {
        if more(stream, buffer)? == 0 {
            return Err(Failure::after(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    if buffer.len() as u64 > length {
        return Err(Failure::Garbled("more came than was announced".to_owned()));
    }
    Ok(())
}

fn until_closed(stream: &mut impl Read, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    loop {
        match more(stream, buffer) {
            Ok(0) => return Ok(()),
            // Some servers close the connection without taking leave in TLS first.
            Err(Failure::Interrupted(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(());
            }
            Err(failure) => return Err(failure),
            Ok(_) if buffer.len() as u64 > CONTENT_LIMIT => {
                return Err(Failure::Garbled("the answer does not end".to_owned()));
            }
            Ok(_) => {}
        }
    }
}

/// Undoes the chunks (RFC 9112, 7.1) of what is in `buffer` and follows it.
fn chunks(stream: &mut impl Read, mut buffer: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let garbled = || Failure::Garbled("a chunk of the answer has no length".to_owned());
    let mut content = Vec::new();
    loop {
        let (size, length) = loop {
            match httparse::parse_chunk_size(&buffer).map_err(|_| garbled())? {
                httparse::Status::Complete(parsed) => break parsed,
                httparse::Status::Partial if buffer.len() > HEAD_LIMIT => return Err(garbled()),
                httparse::Status::Partial => {
                    if more(stream, &mut buffer)? == 0 {
                        return Err(Failure::after(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
            }
        };
        if content.len() as u64 + length.min(CONTENT_LIMIT + 1) > CONTENT_LIMIT {
            return Err(Failure::Garbled("the answer does not end".to_owned()));
        }
        // Below the limit, so it fits. The chunk is followed by CR LF; the last by trailers, of which
        // there are none here, and CR LF.
        let end = size + usize::try_from(length).map_err(|_| garbled())?;
        while buffer.len() < end + 2 {
            if more(stream, &mut buffer)? == 0 {
                return Err(Failure::after(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        content.extend_from_slice(&buffer[size..end]);
        if &buffer[end..end + 2] != b"\r\n" {
            return Err(garbled());
        }
        buffer.drain(..end + 2);
        if length == 0 {
            return Ok(content);
        }
    }
}

/// Reads a head. `None` when it is not all there.
fn parse(bytes: &[u8]) -> Result<Option<Head>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    let mut response = httparse::Response::new(&mut headers);
    let size = match response.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Failure::Garbled(format!("this is not HTTP: {error}"))),
    };
    let status = response.code.unwrap_or_default();
    // httparse has an empty phrase for one that is not ASCII; messages of Proxmox can be UTF-8.
    let phrase = phrase(bytes).or_else(|| response.reason.map(str::to_owned)).unwrap_or_default();
    let mut length = Length::UntilClosed;
    let mut reusable = response.version == Some(1) && status < 400;
    let mut date = None;
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" if length != Length::Chunked => {
                let number = value.parse().map_err(|_| {
                    Failure::Garbled(format!("`{value}` is no length of an answer"))
                })?;
                if matches!(length, Length::Known(other) if other != number) {
                    return Err(Failure::Garbled("the answer has two lengths".to_owned()));
                }
                length = Length::Known(number);
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                length = Length::Chunked
            }
            "transfer-encoding" => {
                return Err(Failure::Garbled(format!("the answer is encoded as `{value}`")));
            }
            "connection" if value.eq_ignore_ascii_case("close") => reusable = false,
            "date" => date = httpdate::parse_http_date(value).ok(),
            _ => {}
        }
    }
    if matches!(status, 100..=199 | 204 | 304) {
        length = Length::Known(0);
    }
    let answer = Answer { status, phrase, date, content: Vec::new(), reusable };
    Ok(Some(Head { answer, length, size }))
}

/// What follows the status in the first line.
fn phrase(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let text = String::from_utf8_lossy(line);
    let (_, phrase) = text.trim_end().split_once(' ')?.1.split_once(' ')?;
    Some(phrase.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes a few at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn answer(text: &str) -> Result<Answer, Failure> {
        let at_once = read(&mut Slow(text.as_bytes(), usize::MAX));
        for step in [1, 7] {
            let slowly = read(&mut Slow(text.as_bytes(), step));
            assert_eq!(
                at_once.as_ref().ok().map(|answer| &answer.content),
                slowly.as_ref().ok().map(|answer| &answer.content),
                "{step} at a time"
            );
        }
        at_once
    }

    #[test]
    fn an_answer_of_proxmox_is_read() {
        let text = "HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\nConnection: Keep-Alive\r\n\
                    Date: Wed, 25 Nov 2026 22:00:00 GMT\r\nContent-Length: 13\r\n\r\n{\"data\":null}";
        let answer = answer(text).unwrap();
        assert_eq!((answer.status, answer.phrase.as_str()), (200, "OK"));
        assert_eq!(answer.content, b"{\"data\":null}");
        assert!(answer.reusable);
        let date = answer.date.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(date.as_secs(), 1_795_644_000);
    }

    #[test]
    fn the_message_in_the_reason_phrase_is_kept() {
        let text = "HTTP/1.1 401 invalid token value!\r\nConnection: close\r\n\r\n";
        let answer = answer(text).unwrap();
        assert_eq!((answer.status, answer.phrase.as_str()), (401, "invalid token value!"));
        assert!(!answer.reusable);
    }

    #[test]
    fn lengths_are_told_in_three_ways() {
        for (text, content, reusable) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", "ab", true),
            ("HTTP/1.1 200 OK\r\n\r\nab", "ab", false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1;x=y\r\nb\r\n0\r\n\r\n",
                "ab",
                true,
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
                "ab",
                true,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", "ab", false),
        ] {
            let answer = answer(text).unwrap();
            assert_eq!(answer.content, content.as_bytes(), "{text}");
            assert_eq!(answer.reusable, reusable, "{text}");
        }
    }

    #[test]
    fn answers_that_are_cut_or_contradict_themselves_are_refused() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        ] {
            assert!(answer(text).is_err(), "{text}");
        }
        // Nobody asked for more, so it is no answer to the next request either.
        let more = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab";
        assert!(read(&mut Slow(more, usize::MAX)).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&mut Slow(&bytes, 16));
        }

        #[test]
        fn no_content_makes_it_panic(rest in "[0-9a-fA-F\r\n;x]{0,60}") {
            for header in ["Transfer-Encoding: chunked", "Content-Length: 9"] {
                let text = format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n{rest}");
                let _ = read(&mut Slow(text.as_bytes(), 16));
            }
        }
    }
}
