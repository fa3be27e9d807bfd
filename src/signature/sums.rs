//! What is signed: a list of files with their SHA-256, as coreutils' `sha256sum` writes and checks them.
//!
//! ```text
//! # imgbuild sums 1
//! # image e68d684df652…
//! # signed 2026-11-26T13:05:28Z
//! 5891b5b5…  imgbuild-haproxy-1.0.0-e68d684df652.tar.zst
//! ```
//!
//! `sha256sum --check` passes over lines that begin with `#` (`digest_check` of coreutils' `src/cksum.c`). So one signature
//! is about all files and the time, and programs that everybody has are enough to check both.

use std::fmt;

use crate::debian::date::Moment;
use crate::digest::Digest;

/// The first line: the version of the form.
const HEADER: &str = "# imgbuild sums 1";

/// The most files that are listed. There are five.
const LIMIT: usize = 64;

/// A list of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// The image that the files are of.
    pub image: Digest,
    /// When whoever has signed says that it was.
    pub signed: Moment,
    /// The files beside it by name, each with its SHA-256.
    pub files: Vec<(String, Digest)>,
}

/// A text that is no such list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}")]
pub struct NoSums {
    /// The number of the line, from 1.
    pub line: usize,
    /// What should stand there.
    pub expected: &'static str,
}

impl Sums {
    /// Reads a list.
    ///
    /// # Errors
    /// Anything that [`Sums`] does not write, but for the order of the files.
    pub fn parse(text: &str) -> Result<Self, NoSums> {
        let wrong = |line, expected| NoSums { line, expected };
        let end = || wrong(text.lines().count().max(1), "a line feed at the end");
        let text = text.strip_suffix('\n').ok_or_else(end)?;
        let mut lines = (1..).zip(text.split('\n'));
        let mut next = |start: &str| lines.next().and_then(|(_, line)| line.strip_prefix(start));
        next(HEADER)
            .filter(|rest| rest.is_empty())
            .ok_or_else(|| wrong(1, "`# imgbuild sums 1`"))?;
        let image = next("# image ").and_then(digest);
        let image = image.ok_or_else(|| wrong(2, "`# image ` and a SHA-256"))?;
        let signed = next("# signed ").and_then(Moment::parse_rfc3339);
        let signed = signed.ok_or_else(|| wrong(3, "`# signed ` and a time in UTC"))?;
        let mut files: Vec<(String, Digest)> = Vec::new();
        for (number, line) in lines {
            let parts = line.split_once("  ").filter(|(_, name)| is_name(name));
            let file = parts.and_then(|(digits, name)| Some((name.to_owned(), digest(digits)?)));
            let file = file.ok_or_else(|| wrong(number, "a SHA-256, two blanks and a name"))?;
            if files.len() == LIMIT || files.iter().any(|(name, _)| *name == file.0) {
                return Err(wrong(number, "each file once, and no more than there are"));
            }
            files.push(file);
        }
        Ok(Self { image, signed, files })
    }

    /// The SHA-256 of the file called `name`.
    pub fn of(&self, name: &str) -> Option<Digest> {
        self.files.iter().find(|(it, _)| it == name).map(|(_, digest)| *digest)
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{HEADER}\n# image {}\n# signed {}", self.image, self.signed)?;
        self.files.iter().try_for_each(|(name, digest)| writeln!(formatter, "{digest}  {name}"))
    }
}

/// A digest as it is written: in small letters.
fn digest(digits: &str) -> Option<Digest> {
    digits.parse().ok().filter(|digest: &Digest| digest.to_string() == digits)
}

/// Whether `name` is that of a file in the same directory, which `sha256sum` writes without escapes.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.bytes().all(fits) && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sums {
        Sums {
            image: Digest::of("image"),
            signed: Moment::parse_rfc3339("2026-11-26T13:05:28Z").unwrap(),
            files: vec![
                ("a.tar.zst".to_owned(), Digest::of("a")),
                ("b".to_owned(), Digest::of("b")),
            ],
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        assert_eq!(Sums::parse(&sample().to_string()), Ok(sample()));
        assert_eq!(sample().of("b"), Some(Digest::of("b")));
        assert_eq!(sample().of("c"), None);
    }

    #[test]
    fn everything_else_is_refused_with_its_line() {
        let text = sample().to_string();
        let digest = Digest::of("a").to_string();
        for (changed, line) in [
            (String::new(), 1),
            (text.trim_end().to_owned(), 5),
            (text.replace("sums 1", "sums 2"), 1),
            (text.replace("# image ", "# picture "), 2),
            (text.replace("13:05:28Z", "13:05:28+01:00"), 3),
            (text.replace("  a.tar.zst", " a.tar.zst"), 4),
            (text.replace("  a.tar.zst", " *a.tar.zst"), 4),
            (text.replace("a.tar.zst", "../a.tar.zst"), 4),
            (text.replace("a.tar.zst", "a\\nb"), 4),
            (text.replace("a.tar.zst", "b"), 5),
            (text.replace(&digest, &digest.to_uppercase()), 4),
            (text.clone() + "# more\n", 6),
            (text.clone() + "\n", 6),
            (text.replace('\n', "\r\n"), 1),
        ] {
            assert_eq!(Sums::parse(&changed).unwrap_err().line, line, "{changed}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "(?s).{0,200}") {
            let _ = Sums::parse(&text);
        }
    }
}
