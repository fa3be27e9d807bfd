//! What SECURITY.md says that somebody cannot do is proven by tests.

use std::fs;

use crate::markdown::{code_spans, document};
use crate::root;

/// The head of tables in which each row needs a proof.
const HEAD: &str = "| cannot | proven by |";

#[test]
fn what_somebody_cannot_do_is_proven_by_tests_that_are_run() {
    let document = document("SECURITY.md");
    let (mut wrong, mut claims, mut inside) = (Vec::new(), 0, false);
    for (number, line) in &document.text {
        if !line.starts_with('|') || line == HEAD {
            inside = line == HEAD;
            continue;
        }
        let names: Vec<&str> = code_spans(line).filter(|span| is_test_name(span)).collect();
        let is_claim = inside && !line.starts_with("|---");
        claims += usize::from(is_claim);
        if is_claim && names.is_empty() {
            wrong.push(format!("SECURITY.md:{number}: no test proves this"));
        }
        for why in names.into_iter().filter_map(|name| proven(name).err()) {
            wrong.push(format!("SECURITY.md:{number}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(claims > 30, "only {claims} claims");
}

/// `debian::openpgp::tests::altered_text_is_refused`
fn is_test_name(span: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let mut parts = span.split("::");
    span.contains("::") && parts.all(|part| !part.is_empty() && part.bytes().all(plain))
}

/// Whether there is such a test, in a module of `src` or, where the first word is the name of a test program, in
/// `tests`, and every `cargo test` runs it.
fn proven(name: &str) -> Result<(), String> {
    let (modules, function) = name.rsplit_once("::").unwrap_or(("", name));
    let modules: Vec<&str> = modules.split("::").collect();
    for length in (1..=modules.len()).rev() {
        let (file, within) = modules.split_at(length);
        for base in ["src", "tests"] {
            for end in [".rs", "/mod.rs", "/main.rs"] {
                let path = root().join(format!("{base}/{}{end}", file.join("/")));
                let Ok(text) = fs::read_to_string(path) else { continue };
                let is_there = |module: &&str| text.contains(&format!("mod {module} {{"));
                if !within.iter().all(is_there) {
                    continue;
                }
                match is_run(&text, function) {
                    Some(true) => return Ok(()),
                    Some(false) => return Err(format!("{name} is not run by itself")),
                    None => {}
                }
            }
        }
    }
    Err(format!("there is no test {name}"))
}

/// Whether the test `function` of a file is run without being asked for, if there is one.
fn is_run(text: &str, function: &str) -> Option<bool> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let start = format!("fn {function}(");
    let at = lines.iter().position(|line| line.starts_with(&start))?;
    // Attributes and comments stand before it, without an empty line.
    let before: Vec<&&str> = lines[..at].iter().rev().take_while(|line| !line.is_empty()).collect();
    let has = |attribute: &str| before.iter().any(|line| line.starts_with(attribute));
    has("#[test]").then(|| !has("#[ignore"))
}

#[test]
fn a_test_that_is_not_there_or_not_run_proves_nothing() {
    assert_eq!(
        proven("documentation::claims::a_test_that_is_not_there_or_not_run_proves_nothing"),
        Ok(())
    );
    assert_eq!(proven("debian::openpgp::tests::altered_text_is_refused"), Ok(()));
    assert_eq!(proven("store::blob::tests::a_committed_blob_is_found_read_only"), Ok(()));
    for name in [
        "debian::openpgp::tests::altered_text_is_believed",
        "debian::openpgp::altered_text_is_refused::x",
        // There, but no test.
        "documentation::claims::is_run",
        // A test that has to be asked for.
        "boot_disk::a_missing_state_volume_stops_the_service_and_not_the_boot",
    ] {
        assert!(proven(name).is_err(), "{name}");
    }
}
