//! Records of an extended header: `LENGTH KEYWORD=VALUE\n`, the length counting itself.

use super::Defect;

/// The most bytes of records that one member may have. Names are at most 4 KiB and the kernel
/// limits an attribute's value and the list of their names to 64 KiB each (xattr(7)), so this is
/// ample; without a limit a damaged archive could make us allocate anything.
pub(super) const LIMIT: u64 = 1024 * 1024;

/// Appends one record.
pub(super) fn push(records: &mut Vec<u8>, keyword: &str, value: &[u8]) {
    // A space, an equals sign and a line feed.
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(keyword.as_bytes());
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Splits `records` into keywords and values.
pub(super) fn parse(mut records: &[u8]) -> Result<Vec<(&str, &[u8])>, Defect> {
    let mut parsed = Vec::new();
    while !records.is_empty() {
        let (keyword, value, rest) = first(records).ok_or(Defect::ExtendedHeader)?;
        parsed.push((keyword, value));
        records = rest;
    }
    Ok(parsed)
}

fn first(records: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let space = memchr::memchr(b' ', records.get(..records.len().min(20))?)?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let record = records.get(space + 1..length)?;
    let body = record.strip_suffix(b"\n")?;
    let equals = memchr::memchr(b'=', body)?;
    let keyword = std::str::from_utf8(&body[..equals]).ok()?;
    Some((keyword, &body[equals + 1..], &records[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_length_counts_its_own_digits() {
        for (value, expected) in [("", "5 a=\n"), ("12345", "11 a=12345\n"), ("1234", "9 a=1234\n")]
        {
            let mut records = Vec::new();
            push(&mut records, "a", value.as_bytes());
            assert_eq!(String::from_utf8(records).unwrap(), expected);
        }
    }

    #[test]
    fn damaged_records_are_refused() {
        for records in [
            "5 a=",
            "6 a=\n",
            "4 a=\n",
            "x a=\n",
            "5  =\n\n",
            "5 aa\n",
            "a",
            "99999999999999999999 a=\n",
        ] {
            assert_eq!(parse(records.as_bytes()), Err(Defect::ExtendedHeader), "{records:?}");
        }
    }

    proptest! {
        #[test]
        fn records_round_trip(pairs in prop::collection::vec(("[a-z.]{1,30}", prop::collection::vec(any::<u8>(), 0..1200)), 0..5)) {
            let mut records = Vec::new();
            for (keyword, value) in &pairs {
                push(&mut records, keyword, value);
            }
            let parsed = parse(&records).unwrap();
            let expected: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
            prop_assert_eq!(parsed, expected);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
