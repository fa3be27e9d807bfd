//! Names that are read, written and refused.

use super::*;

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn references_are_read_and_written() {
    let digest = format!("r.example/a@sha256:{ZEROS}");
    let cases = [
        ("r.example:5000/a/b:1.0", "https://r.example:5000/v2/a/b", "1.0"),
        ("r.example/a__b/c-d--e:_x", "https://r.example/v2/a__b/c-d--e", "_x"),
        (&digest, "https://r.example/v2/a", &digest[12..]),
        ("localhost/a:x", "http://localhost/v2/a", "x"),
        ("127.0.0.9:5000/a:x", "http://127.0.0.9:5000/v2/a", "x"),
        ("[::1]:5000/a:x", "http://[::1]:5000/v2/a", "x"),
        ("[fd00::1]/a:x", "https://[fd00::1]/v2/a", "x"),
        ("https://localhost:1/a:x", "https://localhost:1/v2/a", "x"),
        ("http://r.example/a:x", "http://r.example/v2/a", "x"),
        ("docker.io/nginx:1", "https://registry-1.docker.io/v2/library/nginx", "1"),
    ];
    for (text, url, which) in cases {
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.location.url(), url, "{text}");
        assert_eq!(reference.which.to_string(), which, "{text}");
        assert_eq!(reference.to_string(), text);
    }
}

#[test]
fn what_is_no_reference_is_refused() {
    let long = format!("r.example/a:{}", "x".repeat(129));
    let far = format!("r.example/{}:x", "a".repeat(250));
    let both = format!("r.example/a:x@sha256:{ZEROS}");
    let capital = format!("r.example/a@sha256:{}", ZEROS.replace('0', "A"));
    for text in [
        "",
        "haproxy",
        "haproxy:1",
        "a/haproxy:1",
        "r.example",
        "r.example/a",
        "r.example/a:",
        "r.example/A:x",
        "r.example/a//b:x",
        "r.example/a/:x",
        "r.example/../a:x",
        "r.example/a___b:x",
        "r.example/a._b:x",
        "r.example/-a:x",
        "r.example/a:.x",
        "r.example/a:x/y",
        "r.example/a:x y",
        "r.example/a@sha256:0",
        "r.example/a@sha512:0",
        "ftp://r.example/a:x",
        "r.example:0/a:x",
        "r.example:70000/a:x",
        "-r.example/a:x",
        "r.example/a\n:x",
        "r.example/ä:x",
        "[::g]/a:x",
        &long,
        &far,
        &both,
        &capital,
    ] {
        assert!(text.parse::<Reference>().is_err(), "{text}");
    }
    for text in [
        "jane:secret@r.example/a:x",
        "http://jane:secret@r.example/a:x",
        &format!("jane:secret@r.example/a@sha256:{ZEROS}"),
        "jane:se/secret@r.example/a",
    ] {
        let error = text.parse::<Reference>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        let error = text.parse::<Place>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_place_gives_repositories() {
    let of = |text: &str| text.parse::<Place>().unwrap().repository("haproxy").unwrap();
    assert_eq!(of("r.example:5000").to_string(), "r.example:5000/haproxy");
    assert_eq!(of("r.example/a/b").url(), "https://r.example/v2/a/b/haproxy");
    for text in ["r", "r.example/", "r.example/a:x", "r.example/a@sha256:0", "r.example//"] {
        assert!(text.parse::<Place>().is_err(), "{text}");
    }
}
