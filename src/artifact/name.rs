//! The names of artifacts, which say what is in them.

use crate::digest::{Digest, Hasher};

/// Raised when the same layers would make another artifact.
const FORMAT_VERSION: u64 = 1;

/// Raised when the same layers would make another disk.
const DISK_VERSION: u64 = 1;

/// The longest name that Proxmox takes for an upload, in bytes, extension included
/// (`PVE::API2::Storage::Status`, parameter `filename`).
const NAME_LIMIT: usize = 255;

/// The formats of artifacts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// An LXC template, `.tar.zst`.
    LxcTemplate,
    /// A disk of a virtual machine, `.qcow2`.
    Qcow2,
}

impl Format {
    /// What file names end with, with the dot. PVE 8 and 9 both know it, in lower case only.
    pub fn extension(self) -> &'static str {
        match self {
            Self::LxcTemplate => ".tar.zst",
            Self::Qcow2 => ".qcow2",
        }
    }
}

/// A role or version that cannot be part of an artifact's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum NameError {
    /// A character that Proxmox would replace, or nothing at all.
    #[error("the {part} `{text}` cannot be part of an artifact's name")]
    #[diagnostic(help(
        "use letters, digits, `_`, `.` and `-`, beginning with a letter or digit: Proxmox silently \
         replaces anything else when the file is uploaded, and would overwrite another file"
    ))]
    Characters {
        /// `role` or `version`.
        part: &'static str,
        /// What it is.
        text: String,
    },
    /// The name is too long.
    #[error("the artifact's name `{0}` is longer than Proxmox takes")]
    #[diagnostic(help("shorten the name of the role or its version"))]
    TooLong(String),
}

/// What identifies an image: the digest of its role, its version and the digests of its `layers`,
/// lowest first. Whoever has two artifacts with the same digest has the same image, in whatever format.
pub fn image_digest(role: &str, version: &str, layers: &[Digest]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field("imgbuild image");
    hasher.field(FORMAT_VERSION.to_le_bytes());
    hasher.field(role);
    hasher.field(version);
    for layer in layers {
        hasher.field(layer.to_string());
    }
    hasher.finish()
}

/// What identifies a disk: the digest of the image that is on it and of what only disks have, the layers
/// of the `machine` definition and of the boot image. A disk has a name of its own, because a new kernel
/// makes another disk of the same image.
pub fn disk_digest(image: &Digest, machine: &[Digest], boot: &[Digest]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field("imgbuild disk");
    hasher.field(DISK_VERSION.to_le_bytes());
    hasher.field(image.to_string());
    for layers in [machine, boot] {
        hasher.field((layers.len() as u64).to_le_bytes());
        for layer in layers {
            hasher.field(layer.to_string());
        }
    }
    hasher.finish()
}

/// `imgbuild-ROLE-VERSION-DIGEST12`: the name of an artifact without its extension. Different
/// content has a different name, so an upload never replaces anything.
///
/// # Errors
/// Where Proxmox would change or refuse the name: when it is uploaded (`normalize_content_filename`
/// replaces everything but `[a-zA-Z0-9_.-]`) or as a volume (`vztmpl/[^/]+` and an extension), both
/// in `PVE::Storage` of libpve-storage-perl 8.3 to 9.1.
pub fn artifact_name(role: &str, version: &str, digest: &Digest) -> Result<String, NameError> {
    for (part, text) in [("role", role), ("version", version)] {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if !text.bytes().all(fits) || !text.starts_with(|first: char| first.is_ascii_alphanumeric())
        {
            return Err(NameError::Characters { part, text: text.to_owned() });
        }
    }
    let name = format!("imgbuild-{role}-{version}-{}", digest.short());
    let longest = Format::LxcTemplate.extension().len();
    if name.len() + longest > NAME_LIMIT {
        return Err(NameError::TooLong(name));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_role_version_and_content() {
        let digest = image_digest("haproxy", "1.0.0", &[Digest::of("a"), Digest::of("b")]);
        assert_eq!(digest.short(), "21f7b6c21d59");
        assert_eq!(
            artifact_name("haproxy", "1.0.0", &digest).unwrap(),
            format!("imgbuild-haproxy-1.0.0-{}", digest.short())
        );
    }

    #[test]
    fn whatever_changes_the_image_changes_its_digest() {
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        let digests = [
            image_digest("r", "1", &[a, b]),
            image_digest("r", "1", &[b, a]),
            image_digest("r", "1", &[a]),
            image_digest("r1", "", &[a, b]),
            image_digest("s", "1", &[a, b]),
            image_digest("r", "2", &[a, b]),
        ];
        let unique: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(unique.len(), digests.len());
    }

    #[test]
    fn names_that_proxmox_would_change_are_refused() {
        let digest = Digest::of("x");
        for (role, version) in [
            ("", "1"),
            ("a", ""),
            ("a/b", "1"),
            ("a", "1.0+deb13"),
            ("a", "1~rc1"),
            ("a", "1 0"),
            ("ä", "1"),
            (".a", "1"),
            ("a", "1:2"),
        ] {
            let result = artifact_name(role, version, &digest);
            assert!(matches!(result, Err(NameError::Characters { .. })), "{role} {version}");
        }
        let long = "a".repeat(250);
        assert!(matches!(artifact_name(&long, "1", &digest), Err(NameError::TooLong(_))));
    }
}
