//! Lists of patterns, as ssh_config(5) has them: `*@campus.example,!guest@*`.

/// Whether `text` fits one of the patterns of `list` and none that `!` stands before (`match_pattern_list` of OpenSSH's
/// `match.c`, for 1).
pub(super) fn matches(text: &str, list: &str) -> bool {
    let mut found = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if fits(text.as_bytes(), pattern.as_bytes()) => return false,
            Some(_) => {}
            None => found |= fits(text.as_bytes(), pattern.as_bytes()),
        }
    }
    found
}

/// Whether `text` fits a pattern of `*`, any bytes, and `?`, any one. Takes the time of a product of both lengths at most.
fn fits(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut in_pattern) = (0, 0);
    // Where the last star stands, and up to where it has taken the text.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                star = Some((in_pattern, at));
                in_pattern += 1;
            }
            Some(b'?') => (at, in_pattern) = (at + 1, in_pattern + 1),
            Some(byte) if *byte == text[at] => (at, in_pattern) = (at + 1, in_pattern + 1),
            _ => match &mut star {
                Some((place, taken)) => {
                    *taken += 1;
                    (at, in_pattern) = (*taken, *place + 1);
                }
                None => return false,
            },
        }
    }
    pattern[in_pattern..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_openssh() {
        for (text, list, expected) in [
            ("ci@campus.example", "ci@campus.example", true),
            ("ci@campus.example", "CI@campus.example", false),
            ("ci@campus.example", "*@campus.example", true),
            ("ci@campus.example", "*@*.example", true),
            ("ci@campus.example", "c?@campus*", true),
            ("ci@campus.example", "ci@", false),
            ("ci@campus.example", "anna@campus.example,ci@*", true),
            ("ci@campus.example", "*,!ci@*", false),
            ("ci@campus.example", "!ci@*,*", false),
            ("ci@campus.example", "!anna@*", false),
            ("", "*", true),
            ("", "", true),
            ("a", "", false),
            ("aaa", "a*a*a*a", false),
            ("imgbuild", "imgbuild,file", true),
        ] {
            assert_eq!(matches(text, list), expected, "{text} {list}");
        }
    }
}
