//! File capabilities in the one form that means the same in every user namespace.

/// `VFS_CAP_REVISION_MASK`, `VFS_CAP_FLAGS_EFFECTIVE` and the revisions of `linux/capability.h`.
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
const FLAG_EFFECTIVE: u32 = 0x0000_0001;

/// `XATTR_CAPS_SZ_2` and `XATTR_CAPS_SZ_3`.
const SIZE_2: usize = 20;
const SIZE_3: usize = 24;

/// A `security.capability` attribute that cannot be put into an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// Neither revision 2 nor 3, or the wrong length for its revision.
    #[error(
        "a security.capability attribute of {length} bytes, revision {revision}, is not understood"
    )]
    Unknown {
        /// Bytes of the attribute.
        length: usize,
        /// The number in its highest byte; 0 if it is too short to have one.
        revision: u8,
    },
    /// A flag other than "effective" is set.
    #[error("a security.capability attribute has unknown flags {0:#08x}")]
    Flags(u32),
}

/// The revision 2 form (20 bytes) of the `security.capability` attribute `value`.
///
/// Revision 3 adds the id that the user namespace's root has outside of it (`rootid`, see
/// capabilities(7), "File capability extended attribute versioning"). It appears when a file is
/// given capabilities inside a user namespace and read from outside. It describes the machine that
/// built the image, so it is dropped: the file has the capability for whoever is root where the
/// image runs. Revision 2 is returned as it is.
///
/// # Errors
/// Any other revision, length or flag.
pub fn normalise_capability(value: &[u8]) -> Result<[u8; SIZE_2], CapabilityError> {
    let magic = value.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let unknown =
        || CapabilityError::Unknown { length: value.len(), revision: (magic >> 24) as u8 };
    match (magic & REVISION_MASK, value.len()) {
        (REVISION_2, SIZE_2) | (REVISION_3, SIZE_3) => {}
        _ => return Err(unknown()),
    }
    let flags = magic & !REVISION_MASK;
    if flags & !FLAG_EFFECTIVE != 0 {
        return Err(CapabilityError::Flags(flags));
    }
    let mut normal = *value.first_chunk::<SIZE_2>().ok_or_else(unknown)?;
    normal[..4].copy_from_slice(&(REVISION_2 | flags).to_le_bytes());
    Ok(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `setcap cap_net_raw=ep` writes: permitted bit 13, effective flag.
    const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn revision_2_is_kept() {
        assert_eq!(normalise_capability(&NET_RAW), Ok(NET_RAW));
    }

    #[test]
    fn revision_3_loses_the_id_of_the_building_namespace() {
        for root in [0_u32, 1000, 100_000] {
            let mut revision_3 = NET_RAW.to_vec();
            revision_3[3] = 3;
            revision_3.extend_from_slice(&root.to_le_bytes());
            assert_eq!(normalise_capability(&revision_3), Ok(NET_RAW));
        }
    }

    #[test]
    fn other_attributes_are_refused() {
        let revision_1 = [1, 0, 0, 1, 0, 32, 0, 0, 0, 0, 0, 0];
        let mut wrong_flag = NET_RAW;
        wrong_flag[0] = 2;
        let mut short_3 = NET_RAW;
        short_3[3] = 3;
        for value in [&b""[..], &NET_RAW[..3], &NET_RAW[..19], &revision_1, &wrong_flag, &short_3] {
            assert!(normalise_capability(value).is_err(), "{value:?}");
        }
    }
}
