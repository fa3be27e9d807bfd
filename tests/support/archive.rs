//! A small signed Debian archive on a server of its own, made by the test itself.

use std::fmt::Write as _;

use imgbuild::digest::Digest;

use super::base::Base;
use super::http::Server;
use super::package::{Package, stanza, xz};
use super::signer::Signer;

/// The suite that archives have.
pub const SUITE: &str = "trixie";

/// What the Release file says of itself.
pub struct Release {
    /// The `Date` field.
    pub date: &'static str,
    /// The `Valid-Until` field.
    pub valid_until: Option<&'static str>,
    /// The seed of the key that signs it.
    pub key: u8,
}

impl Release {
    /// One without fault: signed by the key that definitions name, never expiring.
    pub const GOOD: Self =
        Self { date: "Sun, 01 Jun 2025 00:00:00 UTC", valid_until: None, key: KEY };
}

/// The seed of the key that definitions name.
const KEY: u8 = 1;

/// One suite with one component, `main`.
pub struct Archive {
    /// Serves it.
    pub server: Server,
    packages: String,
}

impl Archive {
    /// An archive that offers `packages`, published well.
    pub fn new(packages: &[Package]) -> Self {
        let mut archive = Self { server: Server::start(), packages: String::new() };
        for package in packages {
            archive.add(package);
        }
        archive.publish(&Release::GOOD);
        archive
    }

    /// The same, together with the packages of Debian that a tree needs to run scripts.
    pub fn with_base(base: &Base, packages: &[Package]) -> Self {
        let mut archive = Self { server: Server::start(), packages: base.stanzas.clone() };
        archive.server.directory(&base.directory);
        archive.add(&base.stand_in);
        for package in packages {
            archive.add(package);
        }
        archive.publish(&Release::GOOD);
        archive
    }

    /// Adds a package to the pool. It is on offer after the next [`Archive::publish`].
    pub fn add(&mut self, package: &Package) {
        let path = pool_path(package);
        let deb = package.deb();
        self.add_stanza(&stanza(&package.control(), &path, &deb));
        self.server.file(&format!("/{path}"), deb);
    }

    /// Adds an entry to the index, whatever it says.
    pub fn add_stanza(&mut self, stanza: &str) {
        writeln!(self.packages, "{stanza}").unwrap();
    }

    /// Signs and publishes what is there.
    pub fn publish(&self, release: &Release) {
        let Release { date, valid_until, key } = release;
        let index = self.packages.as_bytes();
        let packed = xz(index);
        let path = "main/binary-amd64/Packages";
        let mut text = format!("Suite: {SUITE}\nDate: {date}\n");
        if let Some(valid_until) = valid_until {
            writeln!(text, "Valid-Until: {valid_until}").unwrap();
        }
        writeln!(text, "Architectures: amd64\nComponents: main\nSHA256:").unwrap();
        for (bytes, extension) in [(index, ""), (&packed, ".xz")] {
            let (digest, size) = (Digest::of(bytes), bytes.len());
            writeln!(text, " {digest} {size} {path}{extension}").unwrap();
        }
        self.server.file(&format!("/dists/{SUITE}/{path}.xz"), packed);
        self.publish_text(&Signer::new(*key).sign(text.trim_end()));
    }

    /// Publishes `packages`, and whatever stands in `stanzas`, as the content of `suite` at `place` on the
    /// same server: the layout of every large archive, with the certificate of the key made from `seed`
    /// beside it.
    pub fn publish_at(
        &self,
        place: &str,
        (suite, components): (&str, &[&str]),
        packages: &[Package],
        stanzas: &str,
        seed: u8,
    ) {
        let mut index = stanzas.to_owned();
        for package in packages {
            let (path, deb) = (pool_path(package), package.deb());
            writeln!(index, "{}", stanza(&package.control(), &path, &deb)).unwrap();
            self.server.file(&format!("{place}/{path}"), deb);
        }
        let mut release = format!(
            "Suite: {suite}\nCodename: {suite}\nDate: {}\nArchitectures: amd64\nComponents: {}\nSHA256:",
            Release::GOOD.date,
            components.join(" ")
        );
        for (component, text) in
            components.iter().zip([index.as_str()].into_iter().chain(std::iter::repeat("")))
        {
            let packed = xz(text.as_bytes());
            let path = format!("{component}/binary-amd64/Packages");
            for (bytes, extension) in [(text.as_bytes(), ""), (&packed[..], ".xz")] {
                let (digest, size) = (Digest::of(bytes), bytes.len());
                write!(release, "\n {digest} {size} {path}{extension}").unwrap();
            }
            self.server.file(&format!("{place}/dists/{suite}/{path}.xz"), packed);
        }
        let signer = Signer::new(seed);
        self.server.file(&format!("{place}/dists/{suite}/InRelease"), signer.sign(&release));
        self.server.file(&format!("{place}/key.asc"), signer.certificate());
    }

    /// Publishes a flat repository of `packages` on the same server, in the directory `name`, as a vendor
    /// would: `InRelease`, the packed index and the packages side by side, paths as `dpkg-scanpackages .`
    /// writes them, and the certificate of the key made from `seed`.
    pub fn publish_flat(&self, name: &str, packages: &[Package], seed: u8) {
        let mut index = String::new();
        for package in packages {
            let (path, deb) = (package.file_name(), package.deb());
            let stanza = stanza(&package.control(), &format!("./{path}"), &deb);
            writeln!(index, "{stanza}").unwrap();
            self.server.file(&format!("/{name}/{path}"), deb);
        }
        let packed = xz(index.as_bytes());
        let (digest, size) = (Digest::of(&packed), packed.len());
        let date = Release::GOOD.date;
        let release =
            format!("Origin: {name}\nDate: {date}\nSHA256:\n {digest} {size} Packages.xz");
        let signer = Signer::new(seed);
        self.server.file(&format!("/{name}/Packages.xz"), packed);
        self.server.file(&format!("/{name}/InRelease"), signer.sign(&release));
        self.server.file(&format!("/{name}/key.asc"), signer.certificate());
    }

    /// A `[[repositories]]` table for what [`Archive::publish_flat`] has published, from which only
    /// `packages` (TOML) may come.
    pub fn flat(&self, name: &str, packages: &str, seed: u8) -> String {
        let (url, signer) = (self.server.url(&format!("/{name}")), Signer::new(seed));
        format!(
            "[[repositories]]\nname = \"{name}\"\nurl = \"{url}\"\nsuite = \"./\"\n\
             packages = {packages}\nkeyring = {{ url = \"{url}/key.asc\" }}\n\
             signed_by = [\"{}\"]\n",
            signer.fingerprint()
        )
    }

    /// Publishes an InRelease file, whatever it says.
    pub fn publish_text(&self, text: &[u8]) {
        self.server.file(&release_path(), text);
    }

    /// The `[debian]` table of a definition that uses this archive, and lines for the repository.
    pub fn debian(&self, more: &str) -> String {
        let (url, fingerprint) = (self.server.url(""), Signer::new(KEY).fingerprint());
        format!(
            "[debian]\narchitecture = \"amd64\"\n[[debian.repositories]]\nname = \"main\"\n\
             url = \"{url}\"\nsuite = \"{SUITE}\"\ncomponents = [\"main\"]\n\
             keyring = \"keys/archive.asc\"\nsigned_by = [\"{fingerprint}\"]\n{more}\n"
        )
    }

    /// What `keys/archive.asc` has to be.
    pub fn keyring() -> String {
        Signer::new(KEY).certificate()
    }
}

/// Where the InRelease file is on the server.
pub fn release_path() -> String {
    format!("/dists/{SUITE}/InRelease")
}

/// Where a package is in the archive.
pub fn pool_path(package: &Package) -> String {
    format!("pool/main/{}", package.file_name())
}
