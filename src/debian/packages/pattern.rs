//! Names of packages with `*` in them.

/// Whether `pattern` stands for `name`: each `*` stands for any text, also for none.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    // The first place where a part fits leaves most for what follows.
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let mut left = name;
    for part in middle.split('*') {
        let Some(found) = left.find(part) else { return false };
        left = &left[found + part.len()..];
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_text() {
        let cases = [
            ("proxysql", "proxysql", true),
            ("proxysql", "proxysql-dbg", false),
            ("bbb-*", "bbb-web", true),
            ("bbb-*", "bbb-", true),
            ("bbb-*", "bbb", false),
            ("bbb-*", "libbbb-web", false),
            ("lib*-dev", "libkms-dev", true),
            ("lib*-dev", "lib-dev", true),
            ("lib*-dev", "libdev", false),
            ("lib*-dev", "libkms-devel", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbyybzzc", true),
            ("a*b*c", "acb", false),
            ("a**c", "ac", true),
            ("aa*aa", "aaa", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
