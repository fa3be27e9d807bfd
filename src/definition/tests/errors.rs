//! One case for each thing that can be wrong. The reports are in `snapshots/`.

use super::{Files, report};
use crate::definition::Error;

const BASE: &str = "images/base/image.toml";
const NODE: &str = "images/node/image.toml";
const WEB: &str = "images/web/image.toml";
const CAMPUS: &str = "overlays/campus/overlay.toml";
const MACHINE: &str = "images/machine/image.toml";
const KERNEL: &str = "images/kernel/image.toml";

/// Compares the report of loading `files` with the snapshot `name`.
fn refused(name: &str, files: &Files) {
    let error = files.load().err().unwrap_or_else(|| panic!("{name}: nothing is wrong"));
    insta::assert_snapshot!(name, report(files, &error));
}

/// Compares the reports of many changes to the file `path`, all in one snapshot.
fn all_refused(name: &str, path: &str, changes: &[(&str, &str)]) {
    let mut reports = String::new();
    for (old, new) in changes {
        let files = match *old {
            "" => Files::sound().append(path, new),
            old => Files::sound().replace(path, old, new),
        };
        let error = files.load().err().unwrap_or_else(|| panic!("{name}: {new:?} is accepted"));
        reports.push_str(&report(&files, &error));
        reports.push('\n');
    }
    insta::assert_snapshot!(name, reports);
}

#[test]
fn text_that_is_not_toml() {
    refused("syntax", &Files::sound().replace(WEB, "[users.haproxy]", "[users.haproxy"));
    all_refused(
        "syntax_more",
        WEB,
        &[("uid = 990", "uid = 990\nuid = 991"), ("uid = 990", "uid =")],
    );
}

#[test]
fn unknown_keys() {
    let changes = [
        ("summary = \"HAProxy\"", "sumary = \"HAProxy\""),
        ("install = [\"haproxy", "instal = [\"haproxy"),
        ("uid = 990", "uid = 990\nhme = \"/x\""),
        ("minimum = 1", "min = 1"),
        ("address = { type = \"address\" }", "address = { typ = \"address\" }"),
        ("path = \"/run/credstore/stats\"", "path = \"/run/x\"\nvalue = \"hunter2\""),
        ("", "[servises]\n"),
    ];
    all_refused("unknown_key", WEB, &changes);
}

#[test]
fn repositories_that_are_not_as_they_must_be() {
    let flat = "[[repositories]]\nname = \"vendor\"\nurl = \"http://vendor.test\"\nsuite = \"./\"\n\
                packages = [\"sql*\"]\nkeyring = { url = \"http://vendor.test/key\" }\n\
                signed_by = [\"4D64FEC119C2029067D6E791F8D2585B8783D481\"]\n";
    let mut reports = String::new();
    for (old, new) in [
        ("packages = [\"sql*\"]\n", ""),
        ("[\"sql*\"]", "[]"),
        ("[\"sql*\"]", "[\"*\"]"),
        ("[\"sql*\"]", "[\"SQL\"]"),
        ("suite = \"./\"", "suite = \"./\"\ncomponents = [\"main\"]"),
        ("suite = \"./\"", "suite = \"trixie\""),
        ("suite = \"./\"", "suite = \"../\""),
        ("{ url = \"http://vendor.test/key\" }", "{ url = \"ftp://vendor.test/key\" }"),
        ("{ url = \"http://vendor.test/key\" }", "{ uri = \"http://vendor.test/key\" }"),
        ("{ url = \"http://vendor.test/key\" }", "1"),
        ("\"vendor\"", "\"trixie\""),
    ] {
        assert!(flat.contains(old), "{old}");
        let files = Files::sound().append(WEB, &flat.replace(old, new));
        let error = files.load().err().unwrap_or_else(|| panic!("{new:?} is accepted"));
        reports.push_str(&report(&files, &error));
        reports.push('\n');
    }
    let files = Files::sound().append(BASE, flat);
    reports.push_str(&report(&files, &files.load().unwrap_err()));
    insta::assert_snapshot!("repositories", reports);
    Files::sound().append(WEB, flat).load().unwrap();
}

#[test]
fn missing_keys() {
    let changes = [
        ("version = \"1.2.0\"\n", ""),
        ("uid = 990\n", ""),
        ("doc = \"The web servers\"\n", ""),
        ("type = \"integer\"\n", ""),
        (
            "type = \"list\"\nitems = { type = \"record\", fields = { name = { type = \"hostname\" }, address = { type = \"address\" }, port = { type = \"port\", default = 80 } } }\ndefault = []",
            "type = \"list\"",
        ),
    ];
    all_refused("missing_key", WEB, &changes);
}

#[test]
fn values_of_the_wrong_type() {
    let changes = [
        ("role = true", "role = \"yes\""),
        ("version = \"1.2.0\"", "version = 1.2"),
        ("version = \"1.2.0\"", "version = \"1.2.0+b1\""),
        ("[\"haproxy (>= 3.0)\"]", "\"haproxy\""),
        ("[\"haproxy (>= 3.0)\"]", "[\"haproxy\", 7]"),
        ("uid = 990", "uid = 33"),
        ("type = \"integer\"", "type = \"int\""),
        ("type = \"integer\"", "type = \"integr\""),
        ("default = 20000", "default = 0"),
        ("default = 20000", "default = \"20000\""),
        ("default = 20000", "default = 20000.0"),
        ("default = \"http\"", "default = \"htpp\""),
        ("minimum = 1", "minimum = 1\nmaximum = 0"),
        ("minimum = 1", "minimum = 1\nvalues = [\"a\"]"),
        ("\"/run/credstore/stats\"", "\"/run/../etc/shadow\""),
        ("[parameters.mode]", "[parameters.Mode]"),
        ("[parameters.mode]", "[parameters.peers]"),
        ("name = { type = \"hostname\" }", "this = { type = \"hostname\" }"),
        ("", "[[state]]\npath = \"/var/lib/x\"\nmode = \"9\"\ndoc = \"x\"\n"),
        ("", "[[files]]\npath = \"/etc/x\"\nowner = \"a:b\"\n"),
        ("", "[[run]]\ncommand = []\n"),
        ("", "[units]\nmask = [\"apt-daily\"]\n"),
    ];
    all_refused("wrong_type", WEB, &changes);
}

#[test]
fn roots_and_layers_mixed_up() {
    let layer =
        Files::sound().append(WEB, "[debian]\narchitecture = \"amd64\"\nrepositories = []\n");
    refused("debian_empty", &layer);
    refused("root_without_debian", &Files::sound().replace(NODE, "extends = \"base\"\n", ""));
    refused("essential_above_root", &Files::sound().append(NODE, "[packages]\nessential = true\n"));
}

#[test]
fn repositories_nobody_can_trust() {
    let changes = [
        ("signed_by = [\"4D64 FEC1 19C2 0290 67D6  E791 F8D2 585B 8783 D481\"]", "signed_by = []"),
        ("4D64 FEC1 19C2 0290 67D6  E791 F8D2 585B 8783 D481", "8783 D481"),
        ("keys/debian.asc", "../../../etc/passwd"),
        ("keys/debian.asc", "keys/debain.asc"),
        ("http://deb.debian.org/debian/", "deb.debian.org/debian"),
        ("http://deb.debian.org/debian/", "https://campus:password@deb.debian.org/debian/"),
        ("suite = \"trixie\"", "suite = \"../trixie\""),
    ];
    all_refused("repository", BASE, &changes);
}

#[test]
fn chains_that_lead_nowhere() {
    refused("extends_unknown", &Files::sound().replace(WEB, "\"node\"", "\"nod\""));
    let cycle = Files::sound()
        .with("images/a/image.toml", &cyclic("a", "b"))
        .with("images/b/image.toml", &cyclic("b", "c"))
        .with("images/c/image.toml", &cyclic("c", "a"))
        .with("images/d/image.toml", &cyclic("d", "a"));
    refused("extends_cycle", &cycle);
    let itself = Files::sound().replace(WEB, "\"node\"", "\"web\"");
    refused("extends_itself", &itself);
    refused(
        "overlay_extends_unknown",
        &Files::sound()
            .with("overlays/lab/overlay.toml", "summary = \"x\"\nextends = \"campsu\"\n"),
    );
    refused(
        "overlay_cycle",
        &Files::sound().replace(
            CAMPUS,
            "summary = \"The campus\"",
            "summary = \"The campus\"\nextends = \"campus\"",
        ),
    );
}

fn cyclic(name: &str, parent: &str) -> String {
    format!("summary = \"{name}\"\nversion = \"1\"\nextends = \"{parent}\"\n")
}

#[test]
fn names_given_twice_along_a_stack() {
    let again = "[parameters.domain]\ntype = \"string\"\ndefault = \"x\"\ndoc = \"again\"\n";
    refused("parameter_twice", &Files::sound().append(WEB, again));
    let user = "[users.other]\nuid = 990\n";
    refused("uid_twice", &Files::sound().append(NODE, user));
    let group = "[groups.haproxy]\ngid = 400\n";
    refused("group_twice", &Files::sound().append(NODE, group));
    let state = "[[state]]\npath = \"/var/lib/x\"\ndoc = \"x\"\n";
    refused("state_twice", &Files::sound().append(NODE, state).append(WEB, state));
}

#[test]
fn values_that_definitions_give() {
    all_refused(
        "definition_values",
        WEB,
        &[
            ("", "[values]\ndomian = \"x.example\"\n"),
            ("", "[values]\ndomain = \"x_y\"\n"),
            ("", "[values]\nmax_connections = 5\n"),
        ],
    );
}

#[test]
fn values_that_overlays_give() {
    let changes = [
        ("domain = \"campus.example\"", "domian = \"campus.example\""),
        ("[images.web]", "[images.wbe]"),
        ("port = 8080", "port = 70000"),
        ("port = 8080", "prot = 8080"),
        ("address = \"10.20.40.12\"", "address = \"10.20.40.300\""),
        ("name = \"moodle1\", ", ""),
        ("  { name = \"moodle1\", address = \"10.20.40.11\" },", "\"moodle1\","),
        ("domain = \"campus.example\"", "domain = [\"campus.example\"]"),
        ("domain = \"campus.example\"", "max_connections = 5"),
    ];
    all_refused("overlay_values", CAMPUS, &changes);
}

#[test]
fn nodes_that_cannot_be() {
    let changes = [
        ("name = \"lb2\"", "name = \"LB1\""),
        ("10.20.40.3/24", "10.20.40.2/24"),
        ("10.20.40.3/24", "10.20.40.3"),
        ("gateway = \"10.20.40.1\"", "gateway = \"10.20.41.1\""),
        ("address = \"10.20.40.3/24\"", "address = \"10.20.40.3/24\"\nnumber = 1"),
        ("name = \"lb2\"\nimage = \"web\"", "name = \"lb2\"\nimage = \"wbe\""),
        ("name = \"lb2\"\nimage = \"web\"", "name = \"lb2\"\nimage = \"node\""),
    ];
    all_refused("nodes", CAMPUS, &changes);
}

#[test]
fn everything_wrong_is_shown_at_once() {
    let files = Files::sound()
        .replace(CAMPUS, "port = 8080", "port = 0")
        .replace(CAMPUS, "domain = \"campus.example\"", "domian = \"campus.example\"")
        .replace(CAMPUS, "10.20.40.3/24", "10.20.40.2/24");
    refused("several", &files);
}

#[test]
fn directories_and_files_that_do_not_belong() {
    let root = Files::sound();
    let outside = tempfile::TempDir::new().unwrap();
    let error = crate::definition::Project::find(outside.path()).unwrap_err();
    assert!(matches!(error, Error::NoProject { .. }), "{error}");
    let found = crate::definition::Project::find(&root.root().join("images/web")).unwrap();
    assert_eq!(found, root.root());

    refused("image_name", &Files::sound().with("images/Web_2/image.toml", ""));
    refused("no_image_toml", &Files::sound().with("images/empty/README", ""));
    let files = Files::sound().with("images/web/image.toml", "");
    std::fs::write(files.root().join(WEB), [0xff, 0xfe]).unwrap();
    refused("not_utf8", &files);
    std::fs::remove_file(files.root().join(WEB)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", files.root().join(WEB)).unwrap();
    refused("link", &files);
}

#[test]
fn overlay_files_for_no_image() {
    refused("files_of_no_image", &Files::sound().with("overlays/campus/files/wbe/etc/x", ""));
    let files = Files::sound();
    std::os::unix::fs::symlink("/etc", files.root().join("overlays/campus/files")).unwrap();
    refused("overlay_files_link", &files);
}

#[test]
fn nesting_has_an_end() {
    for text in ["[", "{a="].map(|open| format!("x = {}", open.repeat(100_000))) {
        let error = Files::sound().with(WEB, &text).load().unwrap_err();
        assert!(matches!(error, Error::Located(_)), "{error}");
    }
}

#[test]
fn plans_that_cannot_be_made() {
    let files = Files::sound().replace(CAMPUS, "domain = \"campus.example\"\n", "");
    let project = files.load().unwrap();
    let mut reports = String::new();
    for (role, site) in [
        ("web", None),
        ("web", Some("campus")),
        ("wbe", Some("campus")),
        ("node", Some("campus")),
        ("web", Some("campsu")),
        ("web", Some("x")),
    ] {
        let error = project.plan(role, site).unwrap_err();
        reports.push_str(&report(&files, &error));
        reports.push('\n');
    }
    insta::assert_snapshot!("plan", reports);
}

#[test]
fn machines_that_cannot_be() {
    let machine = "[machine]\nboot = \"kernel\"\n";
    let mut reports = String::new();
    let mut refused = |files: Files| {
        let error = files.load().expect_err("nothing is wrong");
        reports.push_str(&report(&files, &error));
        reports.push('\n');
    };
    let replaced = |old, new| Files::with_machine().replace(MACHINE, old, new);
    refused(replaced("boot = \"kernel\"", "boot = \"kernle\""));
    refused(replaced("boot = \"kernel\"", "boot = \"node\""));
    refused(replaced("boot = \"kernel\"", "bot = \"kernel\""));
    refused(replaced("summary", "role = true\nsummary"));
    refused(Files::with_machine().replace(KERNEL, "command", "comand"));
    refused(Files::with_machine().replace(KERNEL, "[\"/usr/lib/make\"]", "[]"));
    let second = format!("summary = \"x\"\nversion = \"1\"\nextends = \"base\"\n{machine}");
    refused(Files::with_machine().with("images/other/image.toml", &second));
    refused(Files::with_machine().append(MACHINE, "[users.haproxy]\nuid = 300\n"));
    let below = "[parameters.mode]\ntype = \"string\"\ndoc = \"x\"\ndefault = \"x\"\n";
    refused(Files::with_machine().append(MACHINE, below));
    insta::assert_snapshot!("machine", reports);
}

#[test]
fn volumes_that_cannot_be_told_apart() {
    let changes = [
        ("", "[[state]]\npath = \"/var/lib/postgresql-17\"\ndoc = \"x\"\n"),
        ("", "[[state]]\npath = \"/var/lib/x\"\nname = \"X\"\ndoc = \"x\"\n"),
        ("", "[[state]]\npath = \"/a/x\"\ndoc = \"x\"\n[[state]]\npath = \"/b/x\"\ndoc = \"x\"\n"),
    ];
    all_refused("volume_names", WEB, &changes);
}

#[test]
fn sources_that_nobody_can_trust() {
    let source =
        |lines: &str| format!("[sources.code]\nurls = [\"https://a.test/code.tar\"]\n{lines}\n");
    let sha256 = format!("sha256 = \"{}\"", "7e".repeat(32));
    let published = "published = \"the release notes\"";
    let archive =
        |lines: &str| source(&format!("type = \"archive\"\ninto = \"/usr/share/a\"\n{lines}"));
    let into =
        |into: &str| source(&format!("type = \"file\"\n{sha256}\n{published}\ninto = \"{into}\""));
    let git = |lines: &str| source(&format!("type = \"git\"\ninto = \"/usr/share/a\"\n{lines}"));
    let package = |lines: &str| source(&format!("type = \"package\"\n{lines}"));
    let digest = format!("digest = \"sha256:{}\"", "7e".repeat(32));
    let oci = |lines: &str| {
        format!(
            "[sources.code]\ntype = \"oci\"\nimage = \"a.test/code\"\npath = \"/srv/a\"\n\
             into = \"/usr/share/a\"\n{lines}\n"
        )
    };
    let state = "[[state]]\npath = \"/var/lib/a\"\ndoc = \"x\"\n";
    let changes = [
        source("type = \"zip\""),
        archive(""),
        archive(&sha256),
        archive(&format!("{sha256}\n{published}\nunverified = \"ask\"")),
        archive("sha256 = \"7e5e\"\npublished = \"x\""),
        archive(&format!("{sha256}\n{published}\nmode = \"0755\"")),
        archive(&format!("{sha256}\n{published}\nstrip = -1")),
        archive(&format!("{sha256}\n{published}")).replace("https://a", "https://me:word@a"),
        archive(&format!("{sha256}\n{published}")).replace("https://", "ftp://"),
        archive(&format!("{sha256}\n{published}")).replace("[\"https://a.test/code.tar\"]", "[]"),
        into("/lib/a"),
        into("/run/a"),
        into("/usr/../etc/a"),
        format!("{state}{}", into("/var/lib/a/b")),
        git(&sha256),
        git("commit = \"7498a81\""),
        package(&format!("{sha256}\n{published}\ninto = \"/usr/share/a\"")),
        package(""),
        oci(""),
        oci("digest = \"7e5e\""),
        oci(&format!("{digest}\n{sha256}")),
        oci(&digest).replace("a.test/code\"", "code:1.0\""),
        oci(&digest).replace("path = \"/srv/a\"", "path = \"srv/a\""),
        archive(&format!("{sha256}\n{published}")).replace("sources.code", "sources.Code"),
    ];
    let changes: Vec<(&str, &str)> = changes.iter().map(|change| ("", change.as_str())).collect();
    all_refused("sources", WEB, &changes);
    let twice = archive(&format!("{sha256}\n{published}"));
    let files = Files::sound().append(NODE, &twice).append(WEB, &twice);
    refused("source_twice", &files);
}
