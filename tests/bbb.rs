//! BigBlueButton on Ubuntu. Neither archive can be had here. For packages of Ubuntu those of Debian with the same
//! names stand in: systemd, nftables, PostgreSQL, Redis, nginx and Ruby are real. BigBlueButton, Docker and Node.js
//! are fakes that behave like the originals (`bbb/packages.rs`). The definitions are those of the project; only
//! where packages come from, and who signs, is replaced.
//!
//! Scalelite's script is the real one if `IMGBUILD_TEST_SCALELITE` is a clone of
//! <https://github.com/blindsidenetworks/scalelite>, else one that stands in. Where containers cannot be booted
//! (`tests/boot.rs`), the guest is not.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

#[path = "bbb/guest.rs"]
mod guest;
#[path = "bbb/packages.rs"]
mod packages;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use imgbuild::definition::Project as Definitions;
use support::archive::Archive;
use support::base::{Base, with};
use support::lab::{succeed, unavailable};
use support::package::Package;
use support::project::Project;
use support::signer::Signer;

/// The definitions under test.
const IMAGES: [&str; 5] = ["ubuntu", "ubuntu-node", "bbb-ground", "bbb-packages", "bbb"];

/// What of Debian stands in for packages of Ubuntu with these names: what is essential, and what is to be real.
const DEBIAN: [&str; 32] = [
    "bash",
    "bsdutils",
    "curl",
    "debianutils",
    "findutils",
    "gzip",
    "hostname",
    "init-system-helpers",
    "iproute2",
    "iputils-ping",
    "login",
    "mount",
    "ncurses-bin",
    "netbase",
    "nfs-common",
    "nftables",
    "nginx",
    "openssl",
    "passwd",
    "perl-base",
    "postgresql",
    "postgresql-contrib",
    "procps",
    "redis-server",
    "rsync",
    "ruby",
    "sudo",
    "systemd-sysv",
    "sysvinit-utils",
    "tar",
    "udev",
    "util-linux",
];

/// Their repositories, the seed of the key of each, suite and components.
const REPOSITORIES: [(&str, u8, &str, &[&str]); 7] = [
    ("jammy", 11, "jammy", &["main", "universe", "multiverse"]),
    ("jammy-updates", 11, "jammy-updates", &["main", "universe", "multiverse"]),
    ("jammy-security", 11, "jammy-security", &["main", "universe", "multiverse"]),
    ("bigbluebutton", 12, "bigbluebutton-jammy", &["main"]),
    ("nodesource", 13, "nodistro", &["main"]),
    ("docker", 14, "jammy", &["stable"]),
    ("yq", 15, "jammy", &["main"]),
];

/// What a guest gets: 32 letters and digits.
const SECRET: &str = "00112233445566778899aabbccddeeff";
const TURN: &str = "ffeeddccbbaa99887766554433221100";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where a repository lies on the test's server. The packages of Debian lie at its root.
fn place(name: &str) -> String {
    if name == "jammy" { String::new() } else { format!("/{name}") }
}

/// The definition with the test's own repositories in the place of those that it names.
fn rewritten(definition: &str, archive: &Archive) -> String {
    let mut name = String::new();
    let mut lines = Vec::new();
    let mut inside = false;
    for line in definition.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("repositories]]");
        }
        let key = line.split_once(" = ").filter(|_| inside);
        let url = || archive.server.url(&place(&name));
        lines.push(match key {
            Some(("name", value)) => {
                name = value.trim_matches('"').to_owned();
                line.to_owned()
            }
            Some(("url", _)) => format!("url = \"{}\"", url()),
            Some(("keyring", _)) => format!("keyring = {{ url = \"{}/key.asc\" }}", url()),
            Some(("signed_by", _)) => {
                let (_, seed, ..) = REPOSITORIES.iter().find(|it| it.0 == name).unwrap();
                format!("signed_by = [\"{}\"]", Signer::new(*seed).fingerprint())
            }
            _ => line.to_owned(),
        });
    }
    lines.join("\n")
}

/// The names that a definition of the project installs.
fn wanted(image: &str) -> Vec<String> {
    let project = Definitions::load(root()).unwrap();
    let install = project.image(image).unwrap().packages.install.clone();
    install.iter().map(|it| it.text.split_whitespace().next().unwrap().to_owned()).collect()
}

/// A repository with Scalelite's script, and the commit that has it.
fn scalelite(scratch: &Path) -> (String, String) {
    let pinned = "7498a81dc813efcb5116143c64d23493292f7b57";
    if let Ok(clone) = env::var("IMGBUILD_TEST_SCALELITE") {
        return (format!("file://{clone}"), pinned.to_owned());
    }
    let repository = scratch.join("scalelite");
    fs::create_dir_all(repository.join("bigbluebutton")).unwrap();
    let script = repository.join("bigbluebutton/scalelite_post_publish.rb");
    fs::write(&script, STANDS_IN).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(&repository).args([
            "-c",
            "user.name=test",
            "-c",
            "user.email=test@test.example",
        ]);
        succeed(git.args(arguments)).trim().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=A script"]);
    (format!("file://{}", repository.display()), git(&["rev-parse", "HEAD"]))
}

/// Does what Scalelite's script does, as far as its files go.
const STANDS_IN: &str = r##"require "psych"
require File.expand_path("../../lib/recordandplayback", __dir__)
settings = Psych.load_file(File.join(__dir__, "../scalelite.yml"))
published = Psych.load_file(File.join(__dir__, "../bigbluebutton.yml"))["published_dir"]
id = ARGV[ARGV.index("-m") + 1]
Dir.mkdir(settings["work_dir"]) unless Dir.exist?(settings["work_dir"])
archive = "#{settings["work_dir"]}/#{id}.tar"
Dir.chdir(published) do
  system("tar", "--create", "--file", archive, *Dir.glob("*/#{id}")) || raise("tar")
end
system("rsync", "--remove-source-files", archive, settings["spool_dir"]) || raise("rsync")
"##;

/// The project with its repositories, and the server that has them.
fn project(base: &Base) -> (Archive, Project) {
    let archive = Archive::new(&[]);
    archive.server.directory(&base.directory);
    let (meeting, containers) = (packages::bigbluebutton(), packages::containers());
    // What the others' archives have besides is nobody's business.
    let intruder = || Package::new("dash", "99");
    let mut elsewhere: BTreeSet<String> = base
        .stanzas
        .lines()
        .filter_map(|line| line.strip_prefix("Package: "))
        .map(Into::into)
        .collect();
    elsewhere.extend(meeting.iter().chain(&containers).map(|package| package.name.clone()));
    elsewhere.insert("yq".to_owned());
    let rest: BTreeSet<String> = IMAGES.iter().flat_map(|image| wanted(image)).collect();
    let mut jammy = vec![packages::ubuntu()];
    jammy.extend(rest.difference(&elsewhere).map(|name| Package::new(name, "1")));
    for (name, seed, suite, components) in REPOSITORIES {
        let (packages, stanzas) = match name {
            "jammy" => (jammy.clone(), base.stanzas.as_str()),
            "bigbluebutton" => ([&meeting[..], &[intruder()]].concat(), ""),
            "docker" => ([&containers[..], &[intruder()]].concat(), ""),
            "yq" => (vec![Package::new("yq", "4"), intruder()], ""),
            _ => (Vec::new(), ""),
        };
        archive.publish_at(&place(name), (suite, components), &packages, stanzas, seed);
    }
    let mut project = Project::new();
    project.store = base.store.clone();
    for image in IMAGES {
        succeed(
            Command::new("cp")
                .args(["-a", "--parents"])
                .arg(format!("images/{image}"))
                .arg(project.path())
                .current_dir(root()),
        );
        let path = format!("images/{image}/image.toml");
        project.write(&path, &rewritten(&project.read(&path), &archive));
    }
    let (url, commit) = scalelite(project.scratch());
    let definition = project
        .read("images/bbb-packages/image.toml")
        .replace("https://github.com/blindsidenetworks/scalelite", &url)
        .replace("7498a81dc813efcb5116143c64d23493292f7b57", &commit);
    project.write("images/bbb-packages/image.toml", &definition);
    // The test's store for recordings is a directory.
    let definition = project.read("images/bbb/image.toml");
    let (before, after) = definition.split_once("[[connections]]\nto = \"files\"").unwrap();
    let (_, after) = after.split_once("\n\n").unwrap();
    project.write("images/bbb/image.toml", &format!("{before}{after}"));
    project.write("overlays/test/overlay.toml", SITE);
    (archive, project)
}

const SITE: &str = r#"summary = "One server"

[images.bbb]
servers = [
    { name = "bbb2", hostname = "bbb2.campus.example", address = "10.20.50.12", public_address = "203.0.113.12" },
    { name = "bbb1", hostname = "bbb1.campus.example", address = "10.20.50.11", public_address = "203.0.113.11" },
]
stun_servers = ["stun.campus.example"]
turn_servers = [{ hostname = "turn.campus.example" }]
transfer_recordings = true
volatile_size_mib = 512

[[nodes]]
name = "bbb1"
host = "pve1"
image = "bbb"
address = "10.20.50.11/24"
gateway = "10.20.50.1"
"#;

/// The regular files of a template, by path.
fn files(template: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let reader = zstd::stream::read::Decoder::new(fs::File::open(template).unwrap()).unwrap();
    let mut archive = tar::Archive::new(reader);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().unwrap().strip_prefix("./").unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(path, content);
    }
    files
}

/// Configures a guest whose tree has `files`, as its first start does.
fn configure(directory: &Path, secret: &str) -> Output {
    let credentials = directory.join("credentials");
    fs::create_dir_all(&credentials).unwrap();
    let others = [("bbb.turn", TURN), ("bbb.cert", "certificate"), ("bbb.key", "key")];
    for (name, text) in [("bbb.secret", secret)].into_iter().chain(others) {
        fs::write(credentials.join(name), text).unwrap();
    }
    Command::new("/bin/sh")
        .arg(directory.join("tree/usr/lib/imgbuild/bbb-configuration"))
        .env("CREDENTIALS_DIRECTORY", &credentials)
        .env("BBB_ROOT", directory.join("tree"))
        .env("BBB_NODE", "bbb1")
        .output()
        .unwrap()
}

#[test]
fn packages_that_make_up_secrets_and_wait_for_services_become_an_image_without_either() {
    let base = match with("bbb", &DEBIAN) {
        Ok(base) => base,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let (archive, project) = project(&base);
    project.succeed(&["lock"]);
    let lock = project.read("imgbuild.lock");
    assert!(!lock.contains(r#"version = "99""#), "a package that is not allowed was taken");
    assert_eq!(lock.matches("keyring = ").count(), REPOSITORIES.len());
    assert!(
        lock.contains(r#"name = "yq", version = "4", architecture = "amd64", repository = "yq""#)
    );

    // Built twice, with scripts that ask for something random: the same bytes.
    let ended = project.run(&["build", "bbb", "--site", "test", "--check"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let template = project.path().join(ended.stdout.trim());
    let found = files(&template);
    for absent in [
        ".dockerenv",
        "usr/local/bin/docker",
        "usr/local/bin/openssl",
        "usr/local/bin/psql",
        "etc/ssl/private/ssl-cert-snakeoil.key",
        "usr/share/etherpad-lite/APIKEY.txt",
    ] {
        assert!(!found.contains_key(Path::new(absent)), "{absent} is in the image");
    }
    let cluster =
        |path: &&PathBuf| path.starts_with("var/lib/postgresql") || path.ends_with("pg_hba.conf");
    assert_eq!(found.keys().find(cluster), None, "a cluster of PostgreSQL is in the image");
    assert!(
        found.contains_key(Path::new("usr/share/bbb-graphql-server/metadata.imgbuild/tables.yaml"))
    );
    let stands_in = |path: &str| String::from_utf8_lossy(&found[Path::new(path)]).into_owned();
    let made_up = [
        "usr/share/bbb-web/WEB-INF/classes/bigbluebutton.properties",
        "usr/share/bbb-graphql-server/admin-secret",
        "usr/share/bbb-graphql-server/config.yaml",
        "opt/freeswitch/etc/freeswitch/autoload_configs/event_socket.conf.xml",
    ];
    for path in made_up {
        assert!(stands_in(path).contains("imgbuildplaceholder"), "{path}: {}", stands_in(path));
    }

    // The first start of a guest.
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    let parts = [
        "usr/lib/imgbuild",
        "usr/share/imgbuild",
        "usr/share/b",
        "usr/local/bigbluebutton",
        "usr/share/scalelite",
        "usr/share/etherpad-lite",
        "opt",
    ];
    for (path, content) in &found {
        if parts.iter().any(|part| path.to_str().is_some_and(|path| path.starts_with(part))) {
            let to = tree.join(path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(&to, content).unwrap();
        }
    }
    let output = configure(scratch.path(), SECRET);
    assert!(output.status.success(), "{output:?}");
    let read = |path: &str| fs::read_to_string(tree.join(path)).unwrap();
    for path in made_up {
        assert!(!read(path).contains("imgbuildplaceholder"), "{path} still has the word");
    }
    let esl = read(made_up[3]);
    let esl = esl.split("name=\"password\" value=\"").nth(1).unwrap();
    let esl = esl.split('"').next().unwrap();
    assert_eq!(esl.len(), 64);
    let mut shown = String::new();
    for path in [
        "etc/bigbluebutton/bbb-web.properties",
        "etc/bigbluebutton/bbb-apps-akka.conf",
        "etc/bigbluebutton/bbb-fsesl-akka.conf",
        "etc/bigbluebutton/bbb-html5.yml",
        "etc/bigbluebutton/bbb-webrtc-sfu/production.yml",
        "etc/bigbluebutton/turn-stun-servers.xml",
        "etc/bigbluebutton/recording/recording.yml",
        "etc/default/bigbluebutton-cron-config",
        "etc/nginx/sites-enabled/bigbluebutton",
        "opt/freeswitch/etc/freeswitch/autoload_configs/event_socket.conf.xml",
        "opt/freeswitch/etc/freeswitch/sip_profiles/external.xml",
        "usr/share/bigbluebutton/nginx/sip.nginx",
        "usr/local/bigbluebutton/core/scripts/scalelite.yml",
    ] {
        let text =
            read(path).replace(SECRET, "[SECRET]").replace(TURN, "[TURN]").replace(esl, "[ESL]");
        shown.push_str(&format!("=== {path}\n{text}"));
    }
    insta::assert_snapshot!("configuration", shown);
    // A second start: the same secret of the API, others anew.
    assert!(configure(scratch.path(), SECRET).status.success());
    assert!(read("etc/bigbluebutton/bbb-web.properties").contains(SECRET));
    assert!(!read(made_up[3]).contains(esl));
    drop(archive);

    match unavailable() {
        Some(reason) => eprintln!("the guest is not booted: {reason}"),
        None => guest::boot(&template),
    }
}

/// What `ubuntu-node` has of `node` is the same, to the byte: a definition stands on one distribution, so
/// neither can be made of the other.
#[test]
fn guests_on_ubuntu_have_what_guests_on_debian_have() {
    let files = |image: &str| {
        let top = root().join("images").join(image).join("files");
        let mut found = BTreeMap::new();
        for entry in walkdir::WalkDir::new(&top) {
            let entry = entry.unwrap();
            let path = entry.path().strip_prefix(&top).unwrap().to_owned();
            if entry.path_is_symlink() {
                let target = fs::read_link(entry.path()).unwrap();
                found.insert(path, target.into_os_string().into_string().unwrap());
            } else if entry.file_type().is_file() {
                found.insert(path, fs::read_to_string(entry.path()).unwrap());
            }
        }
        found
    };
    let (mut debian, mut ubuntu) = (files("node"), files("ubuntu-node"));
    // How the network gets a client identifier that lasts.
    assert!(debian.remove(Path::new("etc/network/if-pre-up.d/imgbuild-duid")).is_some());
    assert!(ubuntu.remove(Path::new("usr/lib/systemd/networkd.conf.d/70-imgbuild.conf")).is_some());
    // Proxmox VE wants the directory, which on Debian is that of ifupdown.
    assert!(ubuntu.remove(Path::new("etc/network/.gitkeep")).is_some());
    assert_eq!(debian, ubuntu);

    let project = Definitions::load(root()).unwrap();
    let declared = |image: &str| {
        let image = project.image(image).unwrap();
        let parameters = image.parameters.iter();
        parameters.map(|(name, it)| format!("{name} {:?} {}", it.kind, it.doc)).collect::<Vec<_>>()
    };
    assert_eq!(declared("node"), declared("ubuntu-node"));
}

#[test]
fn a_guest_does_not_start_with_a_secret_that_is_none() {
    let scratch = tempfile::tempdir().unwrap();
    let script = root().join("images/bbb/files/usr/lib/imgbuild/bbb-configuration");
    let to = scratch.path().join("tree/usr/lib/imgbuild");
    fs::create_dir_all(&to).unwrap();
    fs::copy(script, to.join("bbb-configuration")).unwrap();
    for (secret, reason) in [
        ("", "at least 32"),
        ("short", "at least 32"),
        ("imgbuildplaceholder", "at least 32"),
        ("00112233445566778899aabbccddee|e;id", "letters and digits"),
        ("00112233445566778899\naabbccddeeff00", "one line"),
    ] {
        let output = configure(scratch.path(), secret);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{secret:?} is accepted");
        assert!(said.contains(reason), "{said}");
        assert!(!scratch.path().join("tree/etc").exists());
    }
}
