use super::*;
use crate::artifact::manifest::{Check, LayerKind};
use crate::artifact::name::Format;
use crate::digest::Digest;
use crate::inspect::report::{
    Belongs, EndpointRow, LayerRow, Note, Origin, PackageRow, ParameterRow, Part, Provenance,
    SecretRow, SourceRow, UnitRow, Usage, UserRow, VolumeRow,
};

/// Text that means something to a browser, in three scripts.
const NASTY: &str = "<script>alert(1)</script>\"'`=& é ñoor قاعدة {{role}}";

/// A role whose every text is `text`.
fn role(text: &str) -> RoleReport {
    let name = || text.to_owned();
    let some = || Some(text.to_owned());
    let digest = Digest::of("image");
    let part = Part { name: name(), bytes: 5 << 20, parts: Vec::new() };
    RoleReport {
        role: name(),
        version: name(),
        summary: some(),
        site: some(),
        format: Format::LxcTemplate,
        digest: Some(digest),
        notes: vec![Note { text: name(), command: some() }],
        artifacts: Vec::new(),
        layers: vec![LayerRow {
            name: name(),
            image: name(),
            kind: LayerKind::Packages,
            belongs: Belongs::Image,
            digest: Some(digest),
            bytes: Some(10),
            paths: Some(0),
            share: Some(1.0),
        }],
        usage: Some(Usage {
            bytes: 5 << 20,
            layers: vec![Part { parts: vec![part.clone()], ..part }],
        }),
        packages: vec![PackageRow {
            name: name(),
            version: name(),
            architecture: name(),
            image: name(),
            from: some(),
            bytes: Some(1),
        }],
        parameters: vec![ParameterRow {
            name: name(),
            value: serde_json::json!([{ name(): [name()] }]),
            origin: Some(Origin::Overlay),
            place: some(),
            doc: some(),
        }],
        volumes: vec![VolumeRow {
            name: name(),
            path: name(),
            owner: name(),
            group: name(),
            mode: name(),
            gib: Some(3),
            doc: some(),
        }],
        endpoints: Some(vec![EndpointRow {
            name: name(),
            port: Some(80),
            last_port: Some(90),
            protocol: name(),
            clients: Some(vec![name()]),
            doc: name(),
        }]),
        secrets: vec![SecretRow { name: name(), path: some(), required: Some(true), doc: some() }],
        units: Some(vec![UnitRow { name: name(), reasons: vec![name()] }]),
        users: Some(vec![UserRow { name: name(), uid: 0, gid: 0, home: name(), shell: name() }]),
        checks: vec![Check { image: name(), command: vec![name(), name()] }],
        checked: true,
        provenance: Provenance {
            builder: None,
            lock: None,
            repositories: Vec::new(),
            sources: vec![SourceRow {
                name: name(),
                kind: name(),
                pin: None,
                unverified: some(),
                published: None,
                urls: vec![name()],
                image: name(),
            }],
            unpinned: vec![name()],
        },
        difference: None,
    }
}

#[test]
fn no_text_of_a_definition_becomes_markup() {
    let report = |text| Report { site: None, roles: vec![role(text)] };
    let page = super::page(&report(NASTY)).unwrap();
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("قاعدة") && page.contains("&lt;script&gt;"), "{page}");
    // As many elements and attributes as of text that means nothing.
    let plain = super::page(&report("plain")).unwrap();
    let count = |page: &str, sign: char| page.matches(sign).count();
    for sign in ['<', '>', '"'] {
        assert_eq!(count(&page, sign), count(&plain, sign), "{sign}");
    }
}

#[test]
fn the_same_report_is_the_same_page() {
    let report = Report { site: None, roles: vec![role("ñoor")] };
    assert_eq!(super::page(&report).unwrap(), super::page(&report).unwrap());
}

#[test]
fn what_was_given_by_hand_and_what_nobody_verified_is_said_loudly() {
    let report = Report { site: None, roles: vec![role("source")] };
    let page = super::page(&report).unwrap();
    assert!(page.contains("cannot be built again"), "{page}");
    assert!(page.contains("nobody has verified it"), "{page}");
}

#[test]
fn values_are_written_for_people() {
    for (json, text) in [
        (serde_json::json!(null), "–"),
        (serde_json::json!(""), "\"\""),
        (serde_json::json!("a"), "a"),
        (serde_json::json!([]), "[]"),
        (serde_json::json!(true), "true"),
        (
            serde_json::json!([{ "name": "m1", "port": 80 }, { "name": "m2" }]),
            "name: m1, port: 80\nname: m2",
        ),
    ] {
        assert_eq!(value(&json), text);
    }
}

#[test]
fn code_in_messages_is_told_from_words() {
    let pieces = prose("run `imgbuild lock` here");
    let code: Vec<bool> = pieces.as_array().unwrap().iter().map(|it| it["code"] == true).collect();
    assert_eq!(code, [false, true, false]);
}
