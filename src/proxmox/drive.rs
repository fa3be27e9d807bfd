//! The drives of a guest: disks of machines, mount points of containers.

use super::names::VolumeId;
use super::property::Properties;

/// A key of a configuration that holds a volume, a path or a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// `scsi1`, `mp0`, `rootfs`, `unused0`, …
    pub key: String,
    /// The volume. `None` for what is none: an empty drive, a device or directory of the node.
    pub volume: Option<VolumeId>,
    /// The options: `serial`, `mp`, `size`, `backup`, …
    pub options: Properties,
}

impl Drive {
    /// Whether the guest only keeps it and does not use it (`unusedN`).
    pub fn is_unused(&self) -> bool {
        self.key.starts_with("unused")
    }

    /// Its size in bytes, as the configuration has it. Informational: the storage knows. `None` for drives
    /// that tell none, as unused ones.
    pub fn size_bytes(&self) -> Option<u64> {
        // `parse_size` and `format_size` of `PVE/JSONSchema.pm`.
        let text = self.options.get("size")?;
        let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
        let shift = match &text[digits.len()..] {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return None,
        };
        match digits.split_once('.') {
            None => digits.parse::<u64>().ok()?.checked_mul(1 << shift),
            // A fraction is rounded up, so that nobody makes too little room.
            Some(_) => {
                let size = digits.parse::<f64>().ok()? * f64::from(1 << 10).powi(shift / 10);
                (size.is_finite() && size >= 0.0).then(|| size.ceil() as u64)
            }
        }
    }
}

/// The keys of drives, without their numbers (`PVE/QemuServer/Drive.pm`, `PVE/LXC/Config.pm`).
const MACHINE_DRIVES: [&str; 5] = ["ide", "sata", "scsi", "virtio", "unused"];
const MACHINE_SINGLE: [&str; 3] = ["efidisk0", "tpmstate0", "vmstate"];
const CONTAINER_DRIVES: [&str; 2] = ["mp", "unused"];

/// Whether `key` holds a drive.
pub(super) fn is_drive(key: &str) -> bool {
    let numbered = |prefix: &str| {
        key.strip_prefix(prefix).is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    key == "rootfs"
        || MACHINE_SINGLE.contains(&key)
        || MACHINE_DRIVES.iter().any(|prefix| numbered(prefix))
        || CONTAINER_DRIVES.iter().any(|prefix| numbered(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, size) in [
            ("528K", Some(528 << 10)),
            ("4M", Some(4 << 20)),
            ("1T", Some(1 << 40)),
            ("512", Some(512)),
            ("1.5G", Some(3 << 29)),
            ("G", None),
            ("1GG", None),
            ("-1G", None),
            ("99999999999999T", None),
            ("1P", None),
        ] {
            let options = Properties::leading("a:b").unwrap().with("size", text).unwrap();
            let drive = Drive { key: "scsi0".to_owned(), volume: None, options };
            assert_eq!(drive.size_bytes(), size, "{text}");
        }
    }
}
