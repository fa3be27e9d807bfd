//! Text in HTML and SVG.

/// `text` so that it means itself in an element or a quoted attribute. What XML allows in no way is left out:
/// control characters other than the white space (XML 1.0, section 2.2).
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => {}
            character if character.is_control() => {}
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_means_itself() {
        for (text, expected) in [
            ("plain", "plain"),
            ("<a href=\"x\">'&amp;'", "&lt;a href=&quot;x&quot;&gt;&#39;&amp;amp;&#39;"),
            ("É, ñoor, قاعدة البيانات", "É, ñoor, قاعدة البيانات"),
            ("a\u{0}b\u{1b}[31m\nc\u{ffff}", "ab[31m\nc"),
        ] {
            assert_eq!(escaped(text), expected, "{text:?}");
        }
    }
}
