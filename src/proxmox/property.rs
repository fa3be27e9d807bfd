//! Property strings, Proxmox's lists of options in one value: `virtio=BC:24:11:…,bridge=vmbr0,tag=30`.
//!
//! `parse_property_string` of `PVE/JSONSchema.pm` (pve-common) splits at commas and each part at its first
//! `=`. One part may come without a key, the one that the format calls `default_key`; by custom it stands
//! first. There is no way to write a comma in a value, so such values are refused.

use std::fmt;
use std::str::FromStr;

/// A property string: maybe a value without a key, and keys with values, in order, each key once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    leading: Option<String>,
    pairs: Vec<(String, String)>,
}

/// What cannot be a property string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum PropertyError {
    /// A value that would be read as something else.
    #[error("`{value}` cannot be the value of `{key}`: {why}")]
    Value {
        /// Whose value.
        key: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A key that is none.
    #[error("`{0}` cannot be a key: expected letters, digits, `-` and `_`")]
    Key(String),
    /// The same key again.
    #[error("the key `{0}` is there twice")]
    Twice(String),
    /// A value without a key where none may be.
    #[error("`{0}` has no key")]
    NoKey(String),
    /// Nothing between two commas.
    #[error("there is nothing between two commas")]
    Nothing,
}

impl Properties {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that begins with a value without a key: `local-lvm:8`, `virtio=…` has none.
    ///
    /// # Errors
    ///
    /// When `value` would be read as something else.
    pub fn leading(value: impl fmt::Display) -> Result<Self, PropertyError> {
        let value = value.to_string();
        check("", &value)?;
        if value.contains('=') {
            return Err(PropertyError::Value {
                key: String::new(),
                value,
                why: "what stands before `=` would be read as a key",
            });
        }
        Ok(Self { leading: Some(value), pairs: Vec::new() })
    }

    /// Adds `key=value`.
    ///
    /// # Errors
    ///
    /// When the key is there already or is none, or the value would be read as something else.
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Result<Self, PropertyError> {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if key.is_empty() || !key.bytes().all(letters) {
            return Err(PropertyError::Key(key.to_owned()));
        }
        if self.get(key).is_some() {
            return Err(PropertyError::Twice(key.to_owned()));
        }
        let value = value.to_string();
        check(key, &value)?;
        self.pairs.push((key.to_owned(), value));
        Ok(self)
    }

    /// Adds `key=value` if there is a value.
    ///
    /// # Errors
    ///
    /// As [`Properties::with`].
    pub fn with_some(
        self,
        key: &str,
        value: Option<impl fmt::Display>,
    ) -> Result<Self, PropertyError> {
        match value {
            Some(value) => self.with(key, value),
            None => Ok(self),
        }
    }

    /// The value without a key.
    pub fn first(&self) -> Option<&str> {
        self.leading.as_deref()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All keys with their values, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// Refuses values that cannot be written. `"` and `\` are refused because some versions treat them as quotes.
fn check(key: &str, value: &str) -> Result<(), PropertyError> {
    let why = if value.is_empty() {
        "it is empty"
    } else if value.contains(',') {
        "a comma ends a value"
    } else if value.contains(['"', '\\']) {
        "quotes and backslashes are read differently by different versions"
    } else if value.chars().any(char::is_control) {
        "it has a control character"
    } else if value.trim() != value {
        "it begins or ends with white space, which gets lost"
    } else {
        return Ok(());
    };
    Err(PropertyError::Value { key: key.to_owned(), value: value.to_owned(), why })
}

impl FromStr for Properties {
    type Err = PropertyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut properties = Self::new();
        for (index, part) in text.split(',').enumerate() {
            properties = match part.split_once('=') {
                Some((key, value)) => properties.with(key, value)?,
                None if part.is_empty() => return Err(PropertyError::Nothing),
                None if index == 0 => Self::leading(part)?,
                None => return Err(PropertyError::NoKey(part.to_owned())),
            };
        }
        Ok(properties)
    }
}

impl fmt::Display for Properties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(leading) = &self.leading {
            formatter.write_str(leading)?;
            separator = ",";
        }
        for (key, value) in &self.pairs {
            write!(formatter, "{separator}{key}={value}")?;
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_of_proxmox_are_read() {
        let net: Properties = "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=30".parse().unwrap();
        assert_eq!(net.first(), None);
        assert_eq!(net.get("virtio"), Some("BC:24:11:00:00:01"));
        assert_eq!(net.get("tag"), Some("30"));
        let mount: Properties =
            "local-lvm:vm-100-disk-1,mp=/var/lib/x,backup=1,mountoptions=discard;noatime,size=8G"
                .parse()
                .unwrap();
        assert_eq!(mount.first(), Some("local-lvm:vm-100-disk-1"));
        assert_eq!(mount.get("mountoptions"), Some("discard;noatime"));
        let address: Properties = "ip=10.0.0.5/24,gw=10.0.0.1,ip6=fe80::1/64".parse().unwrap();
        assert_eq!(address.get("ip6"), Some("fe80::1/64"));
    }

    #[test]
    fn what_would_be_read_otherwise_is_refused() {
        assert!(Properties::leading("a=b").is_err());
        for value in ["", "a,b", "a\nb", " a", "a ", "a\"b", "a\\b", "a\0"] {
            assert!(Properties::leading(value).is_err(), "{value:?}");
            assert!(Properties::new().with("key", value).is_err(), "{value:?}");
        }
        for key in ["", "a,b", "a=b", "a b", "ä"] {
            assert!(Properties::new().with(key, "1").is_err(), "{key:?}");
        }
        for text in ["", "a=1,a=2", "a=1,b", ",", "a,,b=1", "a=1,"] {
            assert!(text.parse::<Properties>().is_err(), "{text}");
        }
    }

    fn value() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9:/.;_+-]{1,12}"
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            leading in proptest::option::of(value()),
            pairs in proptest::collection::btree_map("[a-z][a-z0-9_-]{0,6}", "[a-z0-9:/.=;]{1,12}", 0..6),
        ) {
            prop_assume!(leading.is_some() || !pairs.is_empty());
            let mut properties = match &leading {
                Some(value) => Properties::leading(value).unwrap(),
                None => Properties::new(),
            };
            for (key, value) in &pairs {
                properties = properties.with(key, value).unwrap();
            }
            let read: Properties = properties.to_string().parse().unwrap();
            prop_assert_eq!(read, properties);
        }

        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_written_the_same(text in ".{0,40}") {
            if let Ok(properties) = text.parse::<Properties>() {
                prop_assert_eq!(properties.to_string(), text);
            }
        }

        #[test]
        fn no_value_can_add_a_key(value in ".{0,20}") {
            if let Ok(properties) = Properties::leading("a").unwrap().with("b", &value) {
                let read: Properties = properties.to_string().parse().unwrap();
                prop_assert_eq!(read.pairs().count(), 1);
                prop_assert_eq!(read.get("b"), Some(value.as_str()));
            }
        }
    }
}
