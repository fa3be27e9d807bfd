//! BigBlueButton on Ubuntu. Neither archive can be had here, so packages that behave like the originals stand in:
//! their scripts make up secrets, start services, and wait for a database. The definitions are those of the
//! project; only where packages come from, and who signs, is replaced.

#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use imgbuild::definition::Project as Definitions;
use support::archive::Archive;
use support::base::{Base, base};
use support::package::Package;
use support::project::Project;
use support::signer::Signer;

/// The definitions under test.
const IMAGES: [&str; 3] = ["ubuntu", "bbb-ground", "bbb"];

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

/// What stands for a running system in a tree: nothing runs, and whoever asks is told so.
fn system(base: &Base) -> Package {
    let mut package = base.stand_in.clone();
    package.name = "systemd-sysv".to_owned();
    package
        .field("Depends", "base-files, coreutils, dash, diffutils, dpkg, grep, libc-bin, sed")
        .program(
            "usr/bin/systemctl",
            "#!/bin/sh\n[ \"$1\" = --root=/ ] && exit 0\n\
             echo 'System has not been booted with systemd as init system (PID 1).' >&2\nexit 1\n",
        )
        .program("usr/sbin/runuser", "#!/bin/sh\nshift 3\nexec \"$@\"\n")
}

fn openssl() -> Package {
    // Every call gives something else.
    Package::new("openssl", "3.0").program(
        "usr/bin/openssl",
        "#!/bin/sh\nhead -c 24 /dev/urandom | sha256sum | cut -c 1-40\n",
    )
}

fn postgresql() -> Package {
    Package::new("postgresql", "14").program(
        "usr/bin/psql",
        "#!/bin/sh\necho 'psql: error: connection to server failed: No such file or directory' >&2\nexit 2\n",
    )
}

/// Makes up the secret of the API, and starts its service.
fn web() -> Package {
    Package::new("bbb-web", "3.0.28")
        .file(
            "usr/share/bbb-web/WEB-INF/classes/bigbluebutton.properties",
            "bigbluebutton.web.serverURL=http://localhost\nsecuritySalt=changeme\n",
        )
        .file(
            "usr/share/bbb-web/WEB-INF/classes/application.properties",
            "server.servlet.session.cookie.secure=false\n",
        )
        .script(
            "postinst",
            "SECRET=$(openssl rand -base64 32 | sed 's/=//g' | sed 's/+//g' | sed 's/\\///g')\n\
             sed -i \"s/securitySalt=.*/securitySalt=$SECRET/g\" \
             /usr/share/bbb-web/WEB-INF/classes/bigbluebutton.properties\n\
             systemctl start bbb-web.service || echo 'bbb-web.service could not be registered or started'",
        )
}

/// Fills a database, makes up a secret, waits until a service has opened its port.
fn graphql() -> Package {
    Package::new("bbb-graphql-server", "3.0.28")
        .file("usr/share/bbb-graphql-server/bbb_schema.sql", "create table meeting ();\n")
        .file("usr/share/bbb-graphql-server/config.yaml", "version: 3\nadmin_secret: bigbluebutton\n")
        .file("usr/share/bbb-graphql-server/metadata/tables.yaml", "[]\n")
        .script(
            "postinst",
            "runuser -u postgres -- psql -c \"alter user postgres password 'bbb_graphql'\"\n\
             runuser -u postgres -- psql -c 'drop database if exists bbb_graphql with (force)'\n\
             if [ \"$(runuser -u postgres -- psql -tAc 'SELECT 1 FROM pg_database')\" != 1 ]; then\n\
             runuser -u postgres -- psql -c 'create database hasura_app'\nfi\n\
             SECRET=$(openssl rand -base64 32 | sed 's/=//g')\n\
             echo \"HASURA_GRAPHQL_ADMIN_SECRET=$SECRET\" > /usr/share/bbb-graphql-server/admin-secret\n\
             sed -i \"s/^admin_secret: .*/admin_secret: $SECRET/\" /usr/share/bbb-graphql-server/config.yaml\n\
             if [ ! -f /.dockerenv ]; then\n\
             for second in 1 2 3; do echo \"Waiting for Hasura's port (8085) to be ready...\"; sleep 1; done\n\
             exit 1\nfi",
        )
}

fn freeswitch() -> Package {
    let directory = "opt/freeswitch/etc/freeswitch";
    Package::new("bbb-freeswitch-core", "3.0.28")
        .file(
            &format!("{directory}/autoload_configs/event_socket.conf.xml"),
            "<configuration>\n  <param name=\"listen-ip\" value=\"::\"/>\n  \
             <param name=\"password\" value=\"ClueCon\"/>\n</configuration>\n",
        )
        .file(
            &format!("{directory}/vars.xml"),
            "<include>\n  <X-PRE-PROCESS cmd=\"set\" data=\"default_password=1234\"/>\n  \
             <X-PRE-PROCESS cmd=\"set\" data=\"external_rtp_ip=127.0.0.1\"/>\n</include>\n",
        )
        .script(
            "postinst",
            &format!(
                "sed -i \"s/ClueCon/$(openssl rand -hex 8)/\" /{directory}/autoload_configs/event_socket.conf.xml\n\
                 [ -f /.dockerenv ] || systemctl start freeswitch.service"
            ),
        )
}

fn etherpad() -> Package {
    Package::new("bbb-etherpad", "3.0.28")
        .directory("usr/share/etherpad-lite")
        .script("postinst", "openssl rand -base64 32 > /usr/share/etherpad-lite/APIKEY.txt")
}

/// The project with its repositories, and the server that has them.
fn project(base: &Base) -> (Archive, Project) {
    let archive = Archive::new(&[]);
    archive.server.directory(&base.directory);
    let own = [system(base), openssl(), postgresql()];
    let meeting = [
        web(),
        graphql(),
        freeswitch(),
        etherpad(),
        Package::new("bigbluebutton", "3.0.28")
            .field("Depends", "bbb-web, bbb-graphql-server, bbb-freeswitch-core, bbb-etherpad")
            .directory("var/bigbluebutton"),
        Package::new("bbb-html5", "3.0.28"),
        Package::new("bbb-playback-video", "3.0.28"),
    ];
    let docker = ["docker-ce", "docker-ce-cli", "containerd.io"].map(|it| Package::new(it, "27"));
    // What the others' archives have besides is nobody's business.
    let intruder = || Package::new("dash", "99");
    let mut elsewhere: BTreeSet<String> = BTreeSet::new();
    for package in own.iter().chain(&meeting).chain(&docker) {
        elsewhere.insert(package.name.clone());
    }
    elsewhere.insert("yq".to_owned());
    let mut jammy = own.to_vec();
    let rest: BTreeSet<String> = IMAGES.iter().flat_map(|image| wanted(image)).collect();
    jammy.extend(rest.difference(&elsewhere).map(|name| Package::new(name, "1")));
    for (name, seed, suite, components) in REPOSITORIES {
        let (packages, stanzas) = match name {
            "jammy" => (jammy.clone(), base.stanzas.as_str()),
            "bigbluebutton" => ([&meeting[..], &[intruder()]].concat(), ""),
            "docker" => ([&docker[..], &[intruder()]].concat(), ""),
            "yq" => (vec![Package::new("yq", "4"), intruder()], ""),
            _ => (Vec::new(), ""),
        };
        archive.publish_at(&place(name), (suite, components), &packages, stanzas, seed);
    }
    let mut project = Project::new();
    project.store = base.store.clone();
    for image in IMAGES {
        for entry in walkdir::WalkDir::new(root().join("images").join(image)) {
            let entry = entry.unwrap();
            let to = project.path().join(entry.path().strip_prefix(root()).unwrap());
            if entry.file_type().is_dir() {
                fs::create_dir_all(&to).unwrap();
            } else if entry.path_is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), &to).unwrap();
            } else {
                fs::copy(entry.path(), &to).unwrap();
            }
        }
        let path = format!("images/{image}/image.toml");
        project.write(&path, &rewritten(&project.read(&path), &archive));
    }
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
    for (name, text) in [("bbb.secret", secret), ("bbb.cert", "certificate"), ("bbb.key", "key")] {
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
    let Some(base) = base() else { return };
    let (archive, project) = project(base);
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
    for absent in [".dockerenv", "usr/local/bin/openssl", "usr/local/bin/psql"] {
        assert!(!found.contains_key(Path::new(absent)), "{absent} is in the image");
    }
    assert!(
        found.contains_key(Path::new("usr/share/bbb-graphql-server/metadata.imgbuild/tables.yaml"))
    );
    let stands_in = |path: &str| String::from_utf8_lossy(&found[Path::new(path)]).into_owned();
    let made_up = [
        "usr/share/bbb-web/WEB-INF/classes/bigbluebutton.properties",
        "usr/share/bbb-graphql-server/admin-secret",
        "usr/share/bbb-graphql-server/config.yaml",
        "usr/share/etherpad-lite/APIKEY.txt",
        "opt/freeswitch/etc/freeswitch/autoload_configs/event_socket.conf.xml",
    ];
    for path in made_up {
        assert!(stands_in(path).contains("imgbuildplaceholder"), "{path}: {}", stands_in(path));
    }

    // The first start of a guest.
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    let parts =
        ["usr/lib/imgbuild", "usr/share/imgbuild", "usr/share/bbb", "usr/share/etherpad", "opt"];
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
    let esl = read(made_up[4]);
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
    ] {
        let text = read(path).replace(SECRET, "[SECRET]").replace(esl, "[ESL]");
        shown.push_str(&format!("=== {path}\n{text}"));
    }
    insta::assert_snapshot!("configuration", shown);
    // A second start: the same secret of the API, others anew.
    assert!(configure(scratch.path(), SECRET).status.success());
    assert!(read("etc/bigbluebutton/bbb-web.properties").contains(SECRET));
    assert!(!read(made_up[4]).contains(esl));
    drop(archive);
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
