//! Users and groups of the root directory, by name (passwd(5), group(5)).

use std::collections::HashMap;

use super::root::Root;
use super::{Error, read};

/// Numbers of users and groups by name.
#[derive(Debug, Default)]
pub struct Users {
    users: HashMap<Vec<u8>, u32>,
    groups: HashMap<Vec<u8>, u32>,
}

impl Users {
    /// Reads `/etc/passwd` and `/etc/group`; a root directory without them has none.
    pub fn load(root: &Root) -> Result<Self, Error> {
        let load = |path: &[u8]| Ok(parse(&read(root, path)?.unwrap_or_default()));
        Ok(Self { users: load(b"/etc/passwd")?, groups: load(b"/etc/group")? })
    }

    /// The number of the user `name`.
    pub fn user(&self, name: &[u8]) -> Option<u32> {
        self.users.get(name).copied()
    }

    /// The number of the group `name`.
    pub fn group(&self, name: &[u8]) -> Option<u32> {
        self.groups.get(name).copied()
    }
}

/// The name and third field of every line; the first of several lines of a name counts, and
/// lines that are nothing of the kind are passed over, as in getpwnam(3).
fn parse(text: &[u8]) -> HashMap<Vec<u8>, u32> {
    let mut numbers = HashMap::new();
    for line in text.split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b':');
        if let (Some(name), Some(number)) = (fields.next(), fields.nth(1))
            && let Some(number) =
                std::str::from_utf8(number).ok().and_then(|text| text.parse().ok())
        {
            numbers.entry(name.to_vec()).or_insert(number);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_name_counts() {
        let numbers = parse(b"root:x:0:0:root:/root:/bin/sh\n\nbad\nm:x:y:\nm:x:8:\nm:x:9:\n");
        assert_eq!(numbers.len(), 2);
        assert_eq!(numbers[b"m".as_slice()], 8);
    }
}
