//! Packages of Debian, fetched once and kept in `target/tmp`, with a store beside them: the few that a tree needs
//! so that dpkg and package scripts run in it, and others that a test asks for.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use imgbuild::debian::deb::Deb;
use imgbuild::digest::Digest;
use imgbuild::fetch::{Fetcher, Network, Policy, Request};
use imgbuild::lock::Lock;
use imgbuild::progress::Silent;
use imgbuild::store::Store;

use super::package::{Package, stanza};
use super::project::{Project, STORE_VARIABLE};

/// A shell, dpkg, what it calls, and what the scripts of these very packages call.
const DEBIAN: &str = r#""base-files", "base-passwd", "coreutils", "dash", "diffutils", "dpkg", "grep", "libc-bin", "sed""#;

/// Those, and something for whatever else an image must have to be published.
pub fn install() -> String {
    format!("[{DEBIAN}, \"stand-in\"]")
}

/// Has the names that Proxmox needs in an image, but nothing that works.
fn stand_in() -> Package {
    Package::new("stand-in", "1.0")
        .directory("etc/systemd")
        .directory("etc/network")
        .file("etc/shadow", "root:*:20000:0:99999:7:::\n")
        .program("usr/lib/systemd/systemd", "#!/bin/false\n")
        .program("usr/sbin/ifup", "#!/bin/false\n")
        .program("usr/sbin/dhcpcd", "#!/bin/false\n")
        .link("./usr/sbin/init", "../lib/systemd/systemd")
}

/// Where they come from.
const MIRROR: &str = "http://deb.debian.org/debian";

/// The packages of Debian.
pub struct Base {
    /// A package of our own beside them.
    pub stand_in: Package,
    /// Their part of a `Packages` file.
    pub stanzas: String,
    /// What to serve: it has a `pool`.
    pub directory: PathBuf,
    /// A store shared by all tests that do not harm it.
    pub store: PathBuf,
}

/// The packages, or nothing and a message, where the mirror cannot be reached.
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
pub fn base() -> Option<&'static Base> {
    static BASE: OnceLock<Result<Base, String>> = OnceLock::new();
    match BASE.get_or_init(|| prepare("base", &[])) {
        Ok(base) => Some(base),
        Err(reason) => {
            eprintln!("skipped: {MIRROR} cannot be used: {reason}");
            None
        }
    }
}

/// Those packages and `more`, with what they depend on, kept in a directory `name`. Nothing stands in for a system
/// that boots.
pub fn with(name: &str, more: &[&str]) -> Result<Base, String> {
    Ok(Base { stand_in: Package::new("stand-in", "1.0"), ..prepare(name, more)? })
}

fn prepare(name: &str, more: &[&str]) -> Result<Base, String> {
    let fetcher = Fetcher::new(Network::Online, Policy { tries: 2, ..Policy::default() });
    let release = format!("{MIRROR}/dists/trixie/InRelease");
    fetcher.get(&[release], 16 << 20).map_err(|error| error.to_string())?;
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let path = directory.join("store");
    let lock = lock(&path, more);
    let store = Store::open(Some(&path)).unwrap();
    let packages = &lock.images["base"].packages;
    let requests: Vec<Request> = packages
        .iter()
        .map(|package| Request {
            label: package.name.clone(),
            urls: vec![format!("{MIRROR}/{}", package.path)],
            digest: package.sha256,
            size: Some(package.size),
        })
        .collect();
    let files = fetcher.download(&requests, &store, 8, &Silent).unwrap();
    let mut stanzas = String::new();
    for (package, file) in packages.iter().zip(&files) {
        let deb = Deb::open(file.path()).unwrap();
        let control = String::from_utf8_lossy(deb.control_file("control").unwrap()).into_owned();
        let content = fs::read(file.path()).unwrap();
        let place = directory.join(&package.path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        if fs::read(&place).map(Digest::of).ok() != Some(package.sha256) {
            let temporary = directory.join(format!("{}.{}", package.name, std::process::id()));
            fs::write(&temporary, &content).unwrap();
            fs::rename(&temporary, &place).unwrap();
        }
        writeln!(stanzas, "{}", stanza(&control, &package.path, &content)).unwrap();
    }
    Ok(Base { stand_in: stand_in(), stanzas, directory, store: path })
}

/// What Debian offers today.
fn lock(store: &Path, more: &[&str]) -> Lock {
    let more: String = more.iter().map(|name| format!(", \"{name}\"")).collect();
    let project = Project::new();
    let keyring = include_str!("../../images/base/keys/debian-archive-trixie.asc");
    project.write("images/base/keys/debian.asc", keyring);
    let definition = format!(
        "summary = \"What scripts need\"\nversion = \"1.0.0\"\nrole = true\n[debian]\n\
         architecture = \"amd64\"\n[[debian.repositories]]\nname = \"trixie\"\nurl = \"{MIRROR}\"\n\
         suite = \"trixie\"\ncomponents = [\"main\"]\nkeyring = \"keys/debian.asc\"\n\
         signed_by = [\"04B54C3CDCA79751B16BC6B5225629DF75B188BD\", \
         \"41587F7DB8C774BCCF131416762F67A0B2C39DE4\"]\n[packages]\ninstall = [{DEBIAN}{more}]\n"
    );
    project.write("images/base/image.toml", &definition);
    let output = project.command(&["lock"]).env(STORE_VARIABLE, store).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Lock::read(&project.path().join("imgbuild.lock")).unwrap()
}
