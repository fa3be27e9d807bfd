//! The frame of a clear-signed message (RFC 9580, section 7).
//!
//! Strict on purpose: implementations disagree about what lies outside the signed part, and
//! every disagreement is a way to smuggle text past one of them.

const BEGIN_MESSAGE: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &str = "-----END PGP SIGNATURE-----";

/// A clear-signed message taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cleartext<'a> {
    /// The signed text: unescaped, without blanks at the ends of lines, and without the line end
    /// before the signature.
    pub text: String,
    /// The armoured block of signatures, from its first to its last line.
    pub signatures: &'a str,
}

/// Takes `message` apart. The error says what is wrong with its frame.
pub(super) fn split(message: &[u8]) -> Result<Cleartext<'_>, &'static str> {
    let message = std::str::from_utf8(message).map_err(|_| "it is not UTF-8")?;
    // A carriage return inside a line is a line end for some implementations and not for others.
    if message.contains('\r') {
        return Err("it contains carriage returns");
    }
    let (first, mut rest) = next_line(message).ok_or("it is empty")?;
    if first.trim_end_matches([' ', '\t']) != BEGIN_MESSAGE {
        return Err("it does not start with `-----BEGIN PGP SIGNED MESSAGE-----`");
    }
    loop {
        let (header, after) = next_line(rest).ok_or("it ends in its header")?;
        rest = after;
        if header.is_empty() {
            break;
        }
        if !header.starts_with("Hash: ") {
            return Err("its header has fields other than `Hash`");
        }
    }
    let mut text = String::with_capacity(rest.len());
    let signatures = loop {
        let (line, after) = next_line(rest).ok_or("it ends before its signature")?;
        if line == BEGIN_SIGNATURE {
            break rest;
        }
        let line = match line.strip_prefix("- ") {
            Some(unescaped) => unescaped,
            None if line.starts_with('-') => return Err("a line starts with an unescaped `-`"),
            None => line,
        };
        text.push_str(line.trim_end_matches([' ', '\t']));
        text.push('\n');
        rest = after;
    };
    text.pop();
    let end = signatures.find(END_SIGNATURE).ok_or("its signature does not end")?;
    let (signatures, behind) = signatures.split_at(end + END_SIGNATURE.len());
    if !behind.trim_matches('\n').is_empty() {
        return Err("something follows its signature");
    }
    Ok(Cleartext { text, signatures })
}

/// The first line of `text` without its end, and what follows. `None` at the end.
fn next_line(text: &str) -> Option<(&str, &str)> {
    if text.is_empty() {
        return None;
    }
    Some(text.split_once('\n').unwrap_or((text, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----\n\nAA==\n-----END PGP SIGNATURE-----";

    fn message(header: &str, body: &str, tail: &str) -> String {
        format!("-----BEGIN PGP SIGNED MESSAGE-----\n{header}\n{body}{SIGNATURE}{tail}")
    }

    #[test]
    fn text_is_unescaped_and_trimmed() {
        let message = message("Hash: SHA256\nHash: SHA512\n", "a  \n- - b\t\n- From\n\nc\n", "\n");
        let found = split(message.as_bytes()).unwrap();
        assert_eq!(found.text, "a\n- b\nFrom\n\nc");
        assert_eq!(found.signatures, SIGNATURE);
    }

    #[test]
    fn empty_text_is_signed_text_too() {
        assert_eq!(split(message("", "", "").as_bytes()).unwrap().text, "");
        assert_eq!(split(message("", "\n", "").as_bytes()).unwrap().text, "");
    }

    #[test]
    fn everything_outside_the_signed_part_is_refused() {
        let good = message("Hash: SHA256\n", "a\n", "\n");
        assert!(split(good.as_bytes()).is_ok());
        for bad in [
            format!("evil: 1\n{good}"),
            format!("\n{good}"),
            format!("{good}evil: 1\n"),
            format!("{good}{good}"),
            message("Evil: 1\n", "a\n", ""),
            message("Hash: SHA256\nevil\n", "a\n", ""),
            message("Hash: SHA256\n", "-----BEGIN PGP SIGNED MESSAGE-----\na\n", ""),
            message("Hash: SHA256\n", "-----EVIL-----\na\n", ""),
            message("Hash: SHA256\n", "a\r\n", ""),
            message("Hash: SHA256\n", "a\n", "").replace("-----END", "-----FIN"),
            message("Hash: SHA256\n", "a\n", "").replace("BEGIN PGP SIGNATURE", "BEGIN SIGNATURE"),
            String::new(),
            "-----BEGIN PGP SIGNED MESSAGE-----".to_owned(),
            "<html>log in first</html>".to_owned(),
        ] {
            assert!(split(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(split(b"\xff").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(
            lines in proptest::collection::vec("(-----BEGIN PGP SIGNED MESSAGE-----|-----BEGIN PGP SIGNATURE-----|-----END PGP SIGNATURE-----|Hash: x||- é|[ -~]{0,4})", 0..12)
        ) {
            let _ = split(lines.join("\n").as_bytes());
        }
    }
}
