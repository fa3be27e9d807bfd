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

/// About how wide `text` is in letters of `size` pixels. What is on a screen is not known here, so it is
/// rather too much: letters of a sans-serif are 0.55 of their size on average, those of East Asia as wide as high.
pub fn width(text: &str, size: f64) -> f64 {
    let letter = |letter: char| match letter {
        '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{ffef}' => 1.0,
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | '.' | ',' | ':' | '\'' | '|' | ' ' => 0.36,
        'm' | 'w' | 'M' | 'W' => 0.9,
        letter if letter.is_ascii_uppercase() => 0.7,
        _ => 0.58,
    };
    text.chars().map(letter).sum::<f64>() * size
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
