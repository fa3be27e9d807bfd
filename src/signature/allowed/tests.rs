//! Lines of `allowed_signers`, and what they allow.

use std::sync::Arc;

use miette::NamedSource;

use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKTwBmaZ2UgH9EQK4Cy2vJ9xVyv0R9p+jhZG7NVM5Mr1";
const OTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUr7LNScQFDhoghZ0OqHHMHvqvdIYiqRpKnj0B7+vrJ";

fn signers(text: &str) -> definition::Result<AllowedSigners> {
    let source = NamedSource::new("allowed_signers", Arc::new(text.to_owned()));
    AllowedSigners::parse(&Arc::new(source))
}

fn at(text: &str) -> Moment {
    Moment::parse_rfc3339(text).unwrap()
}

#[test]
fn a_key_signs_under_its_names_for_its_purposes_in_its_time() {
    let identity = Identity::from_line(KEY).unwrap();
    let now = at("2026-11-26T13:00:00Z");
    for (line, name, result) in [
        ("ci@a.example", None, Ok("ci@a.example")),
        ("ci@a.example", Some("ci@a.example"), Ok("ci@a.example")),
        ("*@a.example", Some("ci@a.example"), Ok("ci@a.example")),
        ("*@a.example", None, Ok("*@a.example")),
        (
            "\t*@a.example,!ci@*",
            Some("ci@a.example"),
            Err("is that of *@a.example,!ci@*, and not of ci@"),
        ),
        ("ci@a.example", Some("anna@a.example"), Err("not of anna@a.example")),
        ("ci@a.example namespaces=\"file,imgb*\"", None, Ok("ci@a.example")),
        (
            "ci@a.example namespaces=\"file,git\"",
            None,
            Err("for `file,git`, and not for `imgbuild`"),
        ),
        ("ci@a.example valid-after=\"20261126Z\"", None, Ok("ci@a.example")),
        ("ci@a.example valid-after=\"202611261301Z\"", None, Err("from 2026-11-26T13:01:00Z on")),
        ("ci@a.example valid-before=\"20261126130000Z\"", None, Ok("ci@a.example")),
        ("ci@a.example Valid-Before=\"20261126125959z\"", None, Err("until 2026-11-26T12:59:59Z")),
        (
            "ci@a.example valid-after=\"20260101Z\",valid-before=\"20270101Z\"",
            None,
            Ok("ci@a.example"),
        ),
        ("ci@a.example cert-authority", None, Err("")),
    ] {
        let text = format!("# Signers\n\n{line} {KEY} somebody\n");
        let allowed = signers(&text).unwrap_or_else(|error| panic!("{line}: {error}"));
        match (allowed.allow(&identity, "imgbuild", name, now), result) {
            (Ok(name), expected) => assert_eq!(Ok(name.as_str()), expected, "{line}"),
            (Err(NotAllowed { reasons }), Err(expected)) => {
                let said = reasons.join("\n");
                assert!(said.contains(expected), "{line}: {said}");
                assert!(said.is_empty() || said.starts_with("allowed_signers:3: "), "{said}");
            }
            (Err(error), Ok(_)) => panic!("{line}: {error:?}"),
        }
    }
}

#[test]
fn a_later_line_may_allow_what_an_earlier_one_does_not() {
    let identity = Identity::from_line(KEY).unwrap();
    let text = format!("a@x {OTHER}\nb@x namespaces=\"git\" {KEY}\nc@x {KEY}\n");
    let allowed =
        signers(&text).unwrap().allow(&identity, "imgbuild", None, at("2026-01-01T00:00:00Z"));
    assert_eq!(allowed.unwrap(), "c@x");
}

#[test]
fn what_is_no_line_is_refused_where_it_stands() {
    for (line, says, underlined) in [
        ("ci@a.example", "there is no key", "ci@a.example"),
        (&format!("{KEY} ci@a.example"), "unknown option", ""),
        (&format!("\"ci@a.example\" {KEY}"), "quotes", ""),
        (
            &format!("ci@a.example namespace=\"imgbuild\" {KEY}"),
            "unknown option `namespace`",
            "namespace=\"imgbuild\"",
        ),
        (&format!("ci@a.example no-touch-required {KEY}"), "unknown option", "no-touch-required"),
        (
            &format!("ci@a.example namespaces=imgbuild {KEY}"),
            "needs a value in quotes",
            "namespaces=imgbuild",
        ),
        (
            &format!("ci@a.example namespaces=\"a\",namespaces=\"b\" {KEY}"),
            "twice",
            "namespaces=\"b\"",
        ),
        (&format!("ci@a.example cert-authority=\"x\" {KEY}"), "no value", "cert-authority=\"x\""),
        (
            &format!("ci@a.example valid-after=\"20261126\" {KEY}"),
            "no time in UTC",
            "valid-after=\"20261126\"",
        ),
        (
            &format!("ci@a.example valid-after=\"20261301Z\" {KEY}"),
            "no time in UTC",
            "valid-after=\"20261301Z\"",
        ),
        (
            &format!("ci@a.example valid-after=\"20270101Z\",valid-before=\"20260101Z\" {KEY}"),
            "at no time",
            "",
        ),
        (&format!("ci@a.example , {KEY}"), "unknown option ``", ""),
        ("ci@a.example ssh-dss AAAA", "`ssh-dss` is no kind", ""),
        ("ci@a.example ssh-ed25519-cert-v01@openssh.com AAAA", "is no kind", ""),
        ("ci@a.example ssh-ed25519 AAAA", "cannot be read", ""),
        (
            "ci@a.example ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIHUr7LNScQFDhoghZ0OqHHMHvqvdIYiqRpKnj0B7+vrJ",
            "the algorithm",
            "",
        ),
    ] {
        let error = signers(&format!("# {KEY}\n{line}\n")).unwrap_err();
        let definition::Error::Located(located) = error else { panic!("{line}: {error:?}") };
        assert!(located.problem.to_string().contains(says), "{line}: {}", located.problem);
        assert!(located.help.is_some(), "{line}");
        let place = &located.file.inner()[located.span.offset()..][..located.span.len()];
        let expected = if underlined.is_empty() { place } else { underlined };
        assert_eq!(place, expected, "{line}");
        assert!(line.contains(place.trim()) && !place.trim().is_empty(), "{line}: {place}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in "[ -~\n\t\"=,é]{0,80}") {
        let _ = signers(&text);
        let _ = signers(&format!("a@x {text} {KEY}\n"));
    }
}
