//! Small projects for tests.

use std::fs;
use std::path::Path;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use tempfile::TempDir;

use crate::definition::Project;

pub(crate) const BASE: &str = r#"summary = "Debian"
version = "1.0.0"

[debian]
architecture = "amd64"
[[debian.repositories]]
name = "trixie"
url = "http://deb.debian.org/debian/"
mirrors = ["https://mirror.example/debian"]
snapshot = "https://snapshot.debian.org/archive/debian"
suite = "trixie"
components = ["main"]
keyring = "keys/debian.asc"
signed_by = ["4D64 FEC1 19C2 0290 67D6  E791 F8D2 585B 8783 D481"]

[packages]
essential = true
install = ["systemd-sysv"]

[parameters.domain]
type = "hostname"
doc = "The domain of the site"
"#;

pub(crate) const NODE: &str = r#"summary = "A Debian guest"
version = "1.0.0"
extends = "base"

[parameters.time_servers]
type = "list"
items = { type = "hostname" }
default = ["pool.ntp.org"]
doc = "Where the time comes from"
"#;

pub(crate) const WEB: &str = r#"summary = "HAProxy"
version = "1.2.0"
extends = "node"
role = true

[packages]
install = ["haproxy (>= 3.0)"]

[users.haproxy]
uid = 990

[parameters.max_connections]
type = "integer"
default = 20000
minimum = 1
doc = "The most connections at once"

[parameters.backends]
type = "list"
items = { type = "record", fields = { name = { type = "hostname" }, address = { type = "address" }, port = { type = "port", default = 80 } } }
default = []
doc = "The web servers"

[parameters.mode]
type = "string"
values = ["http", "tcp"]
default = "http"
doc = "What is balanced"

[secrets.stats_password]
path = "/run/credstore/stats"
doc = "For the statistics page"
"#;

pub(crate) const CAMPUS: &str = r#"summary = "The campus"

[images.base]
domain = "campus.example"

[images.web]
backends = [
  { name = "moodle1", address = "10.20.40.11" },
  { name = "moodle2", address = "10.20.40.12", port = 8080 },
]

[[nodes]]
name = "lb1"
image = "web"
address = "10.20.40.2/24"
gateway = "10.20.40.1"

[[nodes]]
name = "lb2"
image = "web"
address = "10.20.40.3/24"
"#;

/// The files of a project in a directory of their own.
pub(crate) struct Files {
    directory: TempDir,
}

impl Files {
    /// A sound project: `base` <- `node` <- `web`, and the site `campus`.
    pub(crate) fn sound() -> Self {
        Self { directory: TempDir::new().unwrap() }
            .with("images/base/image.toml", BASE)
            .with("images/base/keys/debian.asc", "a certificate")
            .with("images/node/image.toml", NODE)
            .with("images/web/image.toml", WEB)
            .with("overlays/campus/overlay.toml", CAMPUS)
    }

    /// The same with what it takes to make disks: `machine` on `node`, and `kernel` to boot with.
    pub(crate) fn with_machine() -> Self {
        let machine = "summary = \"A virtual machine\"\nversion = \"1\"\nextends = \"node\"\n\
                       [packages]\ninstall = [\"udev\"]\n[machine]\nboot = \"kernel\"\n";
        let kernel = "summary = \"The kernel\"\nversion = \"1\"\nextends = \"base\"\n\
                      [packages]\ninstall = [\"linux\"]\n[boot]\ncommand = [\"/usr/lib/make\"]\n";
        Self::sound()
            .with("images/machine/image.toml", machine)
            .with("images/kernel/image.toml", kernel)
    }

    /// The same with the file `path` holding `text`.
    pub(crate) fn with(self, path: &str, text: &str) -> Self {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// The same with `text` at the end of the file `path`.
    pub(crate) fn append(self, path: &str, text: &str) -> Self {
        let mut whole = fs::read_to_string(self.root().join(path)).unwrap();
        whole.push_str(text);
        self.with(path, &whole)
    }

    /// The same with `new` for the only occurrence of `old` in the file `path`.
    pub(crate) fn replace(self, path: &str, old: &str, new: &str) -> Self {
        let whole = fs::read_to_string(self.root().join(path)).unwrap();
        assert_eq!(whole.matches(old).count(), 1, "{old} in {path}");
        self.with(path, &whole.replace(old, new))
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn load(&self) -> crate::definition::Result<Project> {
        Project::load(self.root())
    }
}

/// `error` as it is shown to the operator, without colours, the directory of the project left out.
pub(crate) fn report(files: &Files, error: &dyn Diagnostic) -> String {
    let mut text = String::new();
    let theme = GraphicalTheme::unicode_nocolor();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(100);
    handler.render_report(&mut text, error).unwrap();
    text.replace(&format!("{}/", files.root().display()), "")
}
