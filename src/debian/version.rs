//! Version numbers of Debian packages: `[epoch:]upstream[-revision]`.
//!
//! Syntax and order are those of deb-version(7), as dpkg implements them in `parsehelp.c` and
//! `version.c`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A well-formed version.
///
/// Equality is that of dpkg, not of the text: `1.0`, `0:1.0` and `1.0-0` are equal. There is no
/// `Hash` for that reason; where the text itself matters, compare [`Version::as_str`].
#[derive(Clone, Debug)]
pub struct Version(Box<str>);

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a version: {reason}")]
pub struct ParseVersionError {
    text: String,
    reason: &'static str,
}

impl Version {
    /// The version as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match validate(text) {
            Ok(()) => Ok(Self(text.into())),
            Err(reason) => Err(ParseVersionError { text: text.to_owned(), reason }),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

/// Checks the syntax of a version as strictly as `dpkg --validate-version` does.
pub fn validate(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    let rest = match text.split_once(':') {
        None => text,
        Some(("", _)) => return Err("the epoch before `:` is empty"),
        Some((epoch, rest)) => {
            if !epoch.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err("the epoch before `:` is not a number");
            }
            if epoch.parse::<i32>().is_err() {
                return Err("the epoch is too big");
            }
            if rest.is_empty() {
                return Err("nothing follows the epoch");
            }
            rest
        }
    };
    let (upstream, revision) = match rest.rsplit_once('-') {
        Some((_, "")) => return Err("the revision after `-` is empty"),
        Some((upstream, revision)) => (upstream, revision),
        None => (rest, ""),
    };
    if !upstream.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("it does not start with a digit");
    }
    let allowed = |text: &str, marks: &[u8]| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
    };
    if !allowed(upstream, b".-+~:") {
        return Err("a character other than letters, digits and `.-+~:`");
    }
    if !allowed(revision, b".+~") {
        return Err("a character other than letters, digits and `.+~` in the revision");
    }
    Ok(())
}

/// Which of two versions is the later one. Total on any text; text that is not a version has a
/// place in the order, too, but not one that means anything.
pub fn compare(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let (left_epoch, left_upstream, left_revision) = split(left);
    let (right_epoch, right_upstream, right_revision) = split(right);
    left_epoch
        .cmp(&right_epoch)
        .then_with(|| compare_part(left_upstream.as_bytes(), right_upstream.as_bytes()))
        .then_with(|| compare_part(left_revision.as_bytes(), right_revision.as_bytes()))
}

/// Epoch, upstream version and revision; what is absent counts as `0` and ``.
fn split(text: &str) -> (u32, &str, &str) {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) => match epoch.parse() {
            Ok(epoch) => (epoch, rest),
            Err(_) => (0, text),
        },
        None => (0, text),
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Compares two upstream versions or two revisions: runs of other characters and runs of digits
/// by turns.
fn compare_part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let left_text = split_off(&mut left, |byte| !byte.is_ascii_digit());
        let right_text = split_off(&mut right, |byte| !byte.is_ascii_digit());
        let longest = left_text.len().max(right_text.len());
        let weights =
            |text: &'_ [u8]| (0..longest).map(|index| weight(text.get(index))).collect::<Vec<_>>();
        let order = if left_text == right_text {
            Ordering::Equal
        } else {
            weights(left_text).cmp(&weights(right_text))
        };
        let order = order.then_with(|| {
            let left_number = split_off(&mut left, |byte| byte.is_ascii_digit());
            let right_number = split_off(&mut right, |byte| byte.is_ascii_digit());
            compare_number(left_number, right_number)
        });
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// Removes the longest prefix whose bytes all satisfy `belongs` from `text`, and returns it.
fn split_off<'a>(text: &mut &'a [u8], belongs: impl Fn(u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|&byte| !belongs(byte)).unwrap_or(text.len());
    let (prefix, rest) = text.split_at(end);
    *text = rest;
    prefix
}

/// The place of a character outside digits: `~` before the end of the text, then letters, then
/// everything else.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        None => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// Compares runs of digits by value, whatever their length.
fn compare_number(left: &[u8], right: &[u8]) -> Ordering {
    let significant =
        |digits: &'_ [u8]| digits.iter().position(|&digit| digit != b'0').unwrap_or(digits.len());
    let left = &left[significant(left)..];
    let right = &right[significant(right)..];
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        // Each list is in ascending order; within a list everything differs.
        for ascending in [
            &["0", "0.1", "1", "1.0.1", "1.1", "1.10", "2"][..],
            &["1~~", "1~~a", "1~", "1~1", "1", "1a", "1+", "1.1"],
            &["9", "10", "1:0", "1:1", "2:0"],
            &["1.0-0.1", "1.0-1~bpo1", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0-2"],
            &["3.0.11-1+deb13u1", "3.0.11-1+deb13u2", "3.0.11-1+deb13u10"],
        ] {
            for pair in ascending.windows(2) {
                assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
                assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
            }
        }
        for (left, right) in [
            ("1.0", "0:1.0"),
            ("1.0", "1.0-0"),
            ("1.0", "1.00"),
            ("1.0", "1."),
            ("1.0a", "1.0a0"),
            ("1.2-007", "1.2-7"),
        ] {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
        }
        assert_eq!("1.0".parse::<Version>(), "0:1.0-0".parse());
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", ":1", "a:1", "-1:1", "1:", "1-", "a1", "1_0", "1 0", "1-1_0", "1é", "-1"]
        {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert!("2147483648:1".parse::<Version>().is_err());
        for text in ["0", "1:1:1", "2147483647:1", "1.2-3-4", "1~", "0-0", "1+dfsg-1~bpo13+1"] {
            assert!(text.parse::<Version>().is_ok(), "{text}");
        }
    }

    /// Versions that differ little, because those are the ones that are hard to compare.
    const SIMILAR: &str = "([0-2]:)?[0-9][0-9a.~+]{0,4}(-[0-9a.~+]{1,3})?";

    proptest! {
        #[test]
        fn order_is_total(mut versions in proptest::collection::vec(SIMILAR, 3)) {
            versions.sort_by(|left, right| compare(left, right));
            prop_assert_ne!(compare(&versions[0], &versions[2]), Ordering::Greater);
            prop_assert_eq!(
                compare(&versions[0], &versions[1]),
                compare(&versions[1], &versions[0]).reverse()
            );
        }

        #[test]
        fn any_text_can_be_compared(left in "\\PC{0,8}", right in "\\PC{0,8}") {
            prop_assert_eq!(compare(&left, &right), compare(&right, &left).reverse());
        }

        /// Where there is a dpkg to ask. No sign comes first: dpkg reads an epoch with strtol(3) and takes
        /// `+0` and `-0` for one, which the policy manual (5.6.12) does not know.
        #[test]
        fn order_and_syntax_agree_with_dpkg(
            left in SIMILAR,
            right in SIMILAR,
            odd in "[0-9a:.~][0-9a:.~+-]{0,4}",
        ) {
            let dpkg = |arguments: &[&str]| {
                let mut command = std::process::Command::new("dpkg");
                command.args(arguments).stderr(std::process::Stdio::null());
                command.status().ok().map(|status| status.success())
            };
            let operator = match compare(&left, &right) {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            if let Some(agrees) = dpkg(&["--compare-versions", &left, operator, &right]) {
                prop_assert!(agrees, "dpkg denies that {} {} {}", left, operator, right);
                let arguments = ["--validate-version", "--", &odd];
                prop_assert_eq!(dpkg(&arguments), Some(validate(&odd).is_ok()), "{}", odd);
            }
        }
    }
}
