//! Text of a certain form. A value of one of these types is valid by construction.

use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;

/// Text that has not the form its type demands. Displays what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidText(pub(crate) &'static str);

/// Declares a type for text for which `$valid` holds.
macro_rules! text {
    ($(#[$meta:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidText;

            fn from_str(text: &str) -> std::result::Result<Self, InvalidText> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(InvalidText($expected)) }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.pad(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}
pub(super) use text;

text! {
    /// The name of an image: part of artifact names, directories and host names.
    ImageName,
    "an image name (lower-case letters, digits and `-`, at most 63, a letter first)",
    is_directory_name
}
text! {
    /// The name of a site. `none` is taken: templates see it when no site is given.
    SiteName,
    "a site name (lower-case letters, digits and `-`, at most 63, a letter first, not `none`)",
    |text| is_directory_name(text) && text != "none"
}
text! {
    /// The version of a definition. It becomes part of artifact names, and Proxmox takes only
    /// these characters there.
    Version,
    "a version (letters, digits, `.`, `_` and `-`, at most 64, a letter or digit first)",
    |text| text.len() <= 64
        && starts_with(text, |byte| byte.is_ascii_alphanumeric())
        && consists_of(text, |byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
text! {
    /// The name of a parameter or secret.
    ParameterName,
    "a name (lower-case letters, digits and `_`, at most 64, a letter first)",
    |text| text.len() <= 64
        && starts_with(text, |byte| byte.is_ascii_lowercase())
        && consists_of(text, |byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
        })
}
text! {
    /// The name of a Debian package (Debian Policy Manual, section 5.6.1).
    PackageName,
    "a package name (lower-case letters, digits, `+`, `-` and `.`, at least two, a letter or digit first)",
    |text| (2..=255).contains(&text.len())
        && starts_with(text, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && consists_of(text, |byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte)
        })
}
text! {
    /// The name of a systemd unit (systemd.unit(5), "Description": a prefix of letters, digits and
    /// `:-_.\`, perhaps `@` and an instance, and one of eleven suffixes; less than 256 characters).
    UnitName,
    "a systemd unit (such as `apt-daily.timer`)",
    is_unit
}
text! {
    /// The name of a state volume. `state-NAME` is the label of its file system, for which ext4 has
    /// 16 bytes (ext4(5)), and the serial number of its disk, for which QEMU has 20.
    VolumeName,
    "a volume name (lower-case letters, digits and `-`, at most 10, a letter first)",
    |text| text.len() <= 10 && is_directory_name(text)
}
text! {
    /// The name of an endpoint.
    EndpointName,
    "an endpoint name (lower-case letters, digits and `-`, at most 63, a letter first)",
    is_directory_name
}
text! {
    /// The name of a source: a key of `[sources]` and the first part of `--source NAME=PATH`.
    SourceName,
    "a source name (lower-case letters, digits and `-`, at most 63, a letter first)",
    is_directory_name
}
text! {
    /// The id of a commit of a git repository: its SHA-1 or SHA-256.
    CommitId,
    "the whole id of a commit (40 or 64 hexadecimal digits, in lower case)",
    |text| matches!(text.len(), 40 | 64)
        && consists_of(text, |byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
text! {
    /// The name of a user or group, in the form that systemd calls strict
    /// (<https://systemd.io/USER_NAMES/>), in lower case.
    Account,
    "a user or group name (lower-case letters, digits, `_` and `-`, at most 31, a letter or `_` first)",
    is_account
}
text! {
    /// A host name: labels of letters, digits and inner hyphens, 63 characters each and 253
    /// together (RFC 1123, section 2.1). Text that reads as an IPv4 address is none.
    Hostname,
    "a host name (labels of letters, digits and inner `-`, joined by `.`)",
    |text| text.len() <= 253 && text.split('.').all(is_label) && text.parse::<Ipv4Addr>().is_err()
}
text! {
    /// A path from the root of the image: no `.`, `..`, empty component, control character or
    /// slash at the end, and not the root itself. 4095 bytes at most, 255 a component
    /// (`PATH_MAX` and `NAME_MAX` of Linux's `limits.h`).
    AbsolutePath,
    "an absolute path without `.`, `..`, `//` or a slash at the end",
    |text| text.len() <= 4095
        && !text.contains(char::is_control)
        && text.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|name| !["", ".", ".."].contains(&name) && name.len() <= 255)
        })
}

impl AbsolutePath {
    /// The path without its leading slash, as layers write it.
    pub fn relative(&self) -> &Path {
        Path::new(self.0.trim_start_matches('/'))
    }
}

fn starts_with(text: &str, allowed: fn(u8) -> bool) -> bool {
    text.bytes().next().is_some_and(allowed)
}

fn consists_of(text: &str, allowed: fn(u8) -> bool) -> bool {
    text.bytes().all(allowed)
}

fn is_directory_name(text: &str) -> bool {
    text.len() <= 63
        && starts_with(text, |byte| byte.is_ascii_lowercase())
        && !text.ends_with('-')
        && consists_of(text, |byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
        })
}

pub(super) fn is_account(text: &str) -> bool {
    text.len() <= 31
        && starts_with(text, |byte| byte.is_ascii_lowercase() || byte == b'_')
        && consists_of(text, |byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte)
        })
}

fn is_unit(text: &str) -> bool {
    const SUFFIXES: [&str; 11] = [
        "service",
        "socket",
        "device",
        "mount",
        "automount",
        "swap",
        "target",
        "path",
        "timer",
        "slice",
        "scope",
    ];
    let Some((prefix, suffix)) = text.rsplit_once('.') else { return false };
    text.len() < 256
        && SUFFIXES.contains(&suffix)
        && !prefix.is_empty()
        && !prefix.starts_with('@')
        && prefix.bytes().filter(|&byte| byte == b'@').count() <= 1
        && consists_of(prefix, |byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && consists_of(text, |byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Permission bits, `0o7777` at most. Written in octal text, `"0750"`: TOML has octal numbers
/// (`0o750`), but `750` without the prefix would silently mean something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u32);

impl Mode {
    /// Directories and programs.
    pub const EXECUTABLE: Self = Self(0o755);
    /// Files.
    pub const PLAIN: Self = Self(0o644);

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Mode {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let valid =
            matches!(text.len(), 3..=4) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        valid.then(|| u32::from_str_radix(text, 8).ok()).flatten().map(Self).ok_or(InvalidText(
            "permissions as three or four octal digits in quotes, such as \"0750\"",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts<T: FromStr>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text:?} is refused");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?} is accepted");
        }
    }

    #[test]
    fn names_keep_to_their_characters() {
        accepts::<ImageName>(
            &["base", "php8-4"],
            &["", "-a", "a-", "A", "a_b", "8x", "a/b", &"a".repeat(64)],
        );
        accepts::<SiteName>(&["campus"], &["none", "..", "a b"]);
        accepts::<Version>(&["1.0.0", "2026_11-a"], &["", ".1", "1+b", "1/2", "ä"]);
        accepts::<VolumeName>(&["mysql", "a-1"], &["", "-a", "A", "a_b", "postgresql1"]);
        accepts::<ParameterName>(&["a", "max_2"], &["", "_a", "2a", "A", "a-b"]);
        accepts::<PackageName>(
            &["g++", "libc6", "0ad"],
            &["a", "-a", "A1", "a_b", "a b", "libc6:amd64"],
        );
        accepts::<Account>(
            &["root", "_apt", "www-data"],
            &["", "-a", "1000", "a.b", "Root", "a:b"],
        );
        accepts::<UnitName>(
            &["apt-daily.timer", "getty@.service", "getty@tty1.service", "-.mount"],
            &[
                "apt",
                ".service",
                "a.conf",
                "../a.service",
                "a/b.service",
                "@a.service",
                "a@b@c.service",
            ],
        );
    }

    #[test]
    fn host_names_follow_rfc_1123() {
        accepts::<Hostname>(
            &["lb1", "3com.example", "A.b", &"a".repeat(63)],
            &["", "-a", "a-", "a..b", "a.", "a_b", "10.0.0.1", &"a".repeat(64)],
        );
    }

    #[test]
    fn paths_cannot_leave_the_root() {
        accepts::<AbsolutePath>(
            &["/a", "/a/..b", "/var/lib/mysql"],
            &["", "/", "a", "/a/", "/a//b", "/a/../b", "/..", "/./a", "/a\0b", "/a\nb"],
        );
        let long = format!("/{}", "a".repeat(256));
        accepts::<AbsolutePath>(&[&long[..256]], &[&long]);
    }

    #[test]
    fn modes_are_octal_text() {
        accepts::<Mode>(&["0755", "644", "7777"], &["", "75", "0o755", "0789", "+755", "77777"]);
        assert_eq!("0750".parse::<Mode>().unwrap().bits(), 0o750);
    }
}
