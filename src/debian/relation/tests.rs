//! Relations, right and wrong.

use super::*;

#[test]
fn relations_survive_reading_and_writing() {
    for text in [
        "a",
        "haproxy (>= 3.0)",
        "a (<< 1:2.0-3) | b | c (= 1)",
        "python3:any (>= 3.13~)",
        "libc6:amd64 (>> 2) [amd64 arm64]",
        "a [!i386 !armhf] | b",
    ] {
        assert_eq!(parse_wanted(text).unwrap().to_string(), text);
    }
}

#[test]
fn blanks_and_folded_lines_do_not_matter() {
    let relations = parse_field("a(>=1)|b ,\n c ( << 2 )\t[ amd64 ],").unwrap();
    let written: Vec<_> = relations.iter().map(ToString::to_string).collect();
    assert_eq!(written, ["a (>= 1) | b", "c (<< 2) [amd64]"]);
    assert_eq!(parse_field(" "), Ok(Vec::new()));
}

#[test]
fn obsolete_operators_mean_what_dpkg_takes_them_for() {
    let relations = parse_field("a (< 1), b (> 1)").unwrap();
    let written: Vec<_> = relations.iter().map(ToString::to_string).collect();
    assert_eq!(written, ["a (<= 1)", "b (>= 1)"]);
}

#[test]
fn errors_name_the_column() {
    for (text, column) in [
        ("", 0),
        ("-a", 0),
        ("a b", 2),
        ("a (>= 1", 7),
        ("a (~ 1)", 3),
        ("a (< 1)", 3),
        ("a (>= )", 6),
        ("a (>= x)", 6),
        ("a (>= 1) | ", 11),
        ("a, b", 1),
        ("a:", 2),
        ("a []", 3),
        ("a [amd64 !i386]", 9),
        ("a <!nocheck>", 2),
        ("a é", 2),
        ("a (= 1é)", 6),
    ] {
        assert_eq!(parse_wanted(text).unwrap_err().column, column, "{text}");
    }
}

#[test]
fn versions_are_accepted_by_their_operator() {
    for (operator, accepted) in [("<<", "1"), ("<=", "1 2"), ("=", "2"), (">=", "2 3"), (">>", "3")]
    {
        let text = format!("a ({operator} 2)");
        let relation = parse_wanted(&text).unwrap();
        for version in ["1", "2", "3"] {
            let expected = accepted.split(' ').any(|accepted| accepted == version);
            assert_eq!(relation.alternatives[0].accepts(version), expected, "{text} {version}");
        }
    }
}

#[test]
fn architecture_restrictions_are_heeded() {
    for (restriction, expected) in [
        ("", true),
        ("[amd64]", true),
        ("[i386 amd64]", true),
        ("[i386]", false),
        ("[!amd64]", false),
        ("[!i386]", true),
        ("[any]", true),
        ("[linux-any]", true),
        ("[hurd-any]", false),
        ("[any-amd64]", true),
        ("[!linux-any]", false),
    ] {
        let text = format!("a {restriction}");
        let relation = parse_wanted(&text).unwrap();
        assert_eq!(relation.alternatives[0].applies_to("amd64"), expected, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-b0-1 |,:()<=>\\[\\]!é.-]{0,24}") {
        if let Err(error) = parse_field(&text) {
            proptest::prop_assert!(text.is_char_boundary(error.column));
        }
        if let Ok(relation) = parse_wanted(&text) {
            let written = relation.to_string();
            proptest::prop_assert_eq!(parse_wanted(&written).unwrap().to_string(), written);
        }
    }
}
