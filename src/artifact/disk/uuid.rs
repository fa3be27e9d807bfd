//! Identifiers made of digests.

use std::fmt;

use crate::digest::Digest;

/// A UUID: the first half of a digest, in the order of its hexadecimal digits. No digit is given up
/// to say which version it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The UUID for what `digest` names.
    pub fn of(digest: &Digest) -> Self {
        let text = digest.to_string();
        let byte = |index: usize| u8::from_str_radix(&text[2 * index..2 * index + 2], 16);
        Self(std::array::from_fn(|index| byte(index).expect("a digest is hexadecimal digits")))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_the_first_half_of_a_digest() {
        let digest = "00112233445566778899aabbccddeeff".repeat(2).parse().unwrap();
        assert_eq!(Uuid::of(&digest).to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    }
}
