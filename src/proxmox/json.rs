//! Proxmox's JSON: Perl's numbers, strings and booleans turn into one another as they please.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A boolean: `1`, `0`, `"1"`, `"0"`, `""`, `true`, `false`, `null`.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Bool(flag) => Ok(flag),
        Value::Null => Ok(false),
        Value::Number(number) if number.as_u64() == Some(0) => Ok(false),
        Value::Number(number) if number.as_u64() == Some(1) => Ok(true),
        Value::String(text) if matches!(text.as_str(), "0" | "") => Ok(false),
        Value::String(text) if text == "1" => Ok(true),
        other => Err(serde::de::Error::custom(format!("`{other}` is neither 0 nor 1"))),
    }
}

/// A whole number, maybe as text, or nothing.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("`{value}` is not a whole number")))
}

/// A VMID, maybe as text.
pub(super) fn vmid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<super::Vmid, D::Error> {
    number(deserializer)?
        .and_then(|number| u32::try_from(number).ok())
        .and_then(super::Vmid::new)
        .ok_or_else(|| serde::de::Error::custom("expected a VMID"))
}

/// A VMID, maybe as text, or nothing.
pub(super) fn some_vmid<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<super::Vmid>, D::Error> {
    let number = number(deserializer)?;
    Ok(number.and_then(|number| u32::try_from(number).ok()).and_then(super::Vmid::new))
}

/// Text; numbers as they are written.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(u8::from(*flag).to_string()),
        _ => None,
    }
}
