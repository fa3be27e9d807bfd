//! Bills of materials and provenance of a real image, as the tools read them that others check them with.
//!
//! It takes the network, and Python with `spdx-tools`, `cyclonedx-python-lib[json-validation]`, `packageurl-python` and
//! `in-toto-attestation`; `IMGBUILD_TEST_PYTHON` names an interpreter that has them. `moodle` and `scalelite`, which have sources
//! that are not of Debian, are among the images where `support::images::with_given_sources` finds these.
#![expect(clippy::print_stderr, reason = "what is left out is told")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use support::images;

const CHECK: &str = r#"
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

spdx, cyclonedx, provenance = sys.argv[1:]
problems = [it.validation_message for it in validate_full_spdx_document(parse_file(spdx))]
problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(cyclonedx).read())
problems += [str(problem)] if problem else []
names = [reference["referenceLocator"]
         for package in json.load(open(spdx))["packages"]
         for reference in package.get("externalRefs", [])]
problems += [name for name in names if PackageURL.from_string(name).to_string() != name]
statement = json_format.ParseDict(json.load(open(provenance)), statement_pb2.Statement())
Statement.copy_from_pb(statement).validate()
assert len(names) > 100, names
sys.exit("\n".join(problems) or None)
"#;

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    output
}

#[test]
#[ignore = "takes the network, and tools of others (see the head of this file)"]
fn documents_of_real_images_are_valid() {
    let directory = tempfile::tempdir().unwrap();
    let imgbuild = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.env("IMGBUILD_STORE", directory.path().join("store"));
        command
    };
    let out = directory.path().join("out");
    let (more, sources) = images::with_given_sources();
    let roles = [&["haproxy"], &more[..]].concat();
    // Moodle has values that only a site knows.
    run(imgbuild()
        .args(["build", "--site", "campus"])
        .args(&roles)
        .args(&sources)
        .arg("--out")
        .arg(&out));
    let python = std::env::var("IMGBUILD_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut checked = 0;
    for entry in std::fs::read_dir(&out).unwrap() {
        let artifact = entry.unwrap().path();
        if artifact.extension().is_some_and(|it| it == "json") {
            continue;
        }
        let write = |verb: &[&str], name: &str| {
            let path = directory.path().join(format!("{checked}.{name}.json"));
            run(imgbuild().args(verb).arg(&artifact).arg("--out").arg(&path));
            path
        };
        let spdx = write(&["sbom"], "spdx");
        let cyclonedx = write(&["sbom", "--format", "cyclonedx"], "cdx");
        let provenance = write(&["provenance"], "intoto");
        run(Command::new(&python).args(["-c", CHECK]).args::<[&Path; 3], _>([
            &spdx,
            &cyclonedx,
            &provenance,
        ]));
        checked += 1;
    }
    assert_eq!(checked, 2 * roles.len(), "a template and a disk of each");
    eprintln!("{checked} artifacts of {roles:?}");
}
