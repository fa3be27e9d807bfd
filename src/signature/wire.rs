//! The encoding of SSH (RFC 4251, section 5), as far as signatures and the agent need it.

/// What of a message was not read yet.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `count` bytes, if there are so many.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A string, which is any bytes after their number.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let count = self.number()?;
        self.take(count.try_into().ok()?)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// Appends `string` after its length. What is written here is shorter than 4 GiB.
pub(super) fn put(message: &mut Vec<u8>, string: &[u8]) {
    message.extend(u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend(string);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_as_they_were_written_and_never_beyond_the_end() {
        let mut message = Vec::new();
        put(&mut message, b"imgbuild");
        put(&mut message, b"");
        let mut reader = Reader::new(&message);
        assert_eq!((reader.text(), reader.string()), (Some("imgbuild"), Some(&b""[..])));
        assert!(reader.is_at_end() && reader.byte().is_none());
        for length in 0..12 {
            assert_eq!(Reader::new(&message[..length]).string(), None, "{length}");
        }
        assert_eq!(Reader::new(&[0xff; 8]).string(), None);
    }
}
