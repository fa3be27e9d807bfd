//! What a new project and a new role consist of, and writing it: all of it or nothing.

mod error;
mod foundation;
mod name;
mod write;

use std::path::{Path, PathBuf};

pub use error::{Error, Obstacle};
pub use name::role_name;
pub use write::{Written, write};

use crate::definition::{Image, ImageName, Project};

/// The role that a new project has.
pub const FIRST_ROLE: &str = "hello";

/// The image that roles stand on, where a project has one of this name.
pub const USUAL_BASE: &str = "node";

/// Where a role says that it waits for the firewall, if what it stands on has one.
const FIREWALL: &str = "usr/lib/systemd/system/imgbuild-firewall.service";

/// Something to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where, below the directory of the project.
    pub path: PathBuf,
    /// What.
    pub content: Content,
}

/// What is written at a path. Directories exist as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File {
        /// What is in it.
        bytes: Vec<u8>,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: PathBuf,
    },
}

/// A whole project: the images that roles stand on, a role, a site with one node of it.
pub fn project() -> Vec<Entry> {
    let text =
        |path: &str, template: &str| file(path.into(), filled(template, FIRST_ROLE, ""), false);
    let mut entries: Vec<Entry> = foundation::entries().collect();
    entries.extend(role(FIRST_ROLE, USUAL_BASE, true));
    entries.extend([
        text("overlays/example/overlay.toml", include_str!("templates/project/overlay.toml")),
        text("README.md", include_str!("templates/project/README.md.in")),
        text(".gitignore", include_str!("templates/project/gitignore")),
    ]);
    entries
}

/// The role `name` on the image `base`.
fn role(name: &str, base: &str, has_firewall: bool) -> Vec<Entry> {
    let text = |path: &str, template: &str, executable: bool| {
        let path = Path::new("images").join(name).join(filled(path, name, base));
        file(path, filled(template, name, base), executable)
    };
    let mut entries = vec![
        text("image.toml", include_str!("templates/role/image.toml"), false),
        text(
            "files/etc/nginx/sites-enabled/@role@.hbs",
            include_str!("templates/role/site.hbs"),
            false,
        ),
        text(
            "files/usr/share/@role@/index.html.hbs",
            include_str!("templates/role/page.hbs"),
            false,
        ),
        text(
            "files/usr/lib/imgbuild/@role@-ready.hbs",
            include_str!("templates/role/ready.hbs"),
            true,
        ),
    ];
    if has_firewall {
        entries.push(text(
            "files/usr/lib/systemd/system/nginx.service.d/70-@role@.conf",
            include_str!("templates/role/firewall.conf"),
            false,
        ));
    }
    entries
}

fn file(path: PathBuf, text: String, executable: bool) -> Entry {
    Entry { path, content: Content::File { bytes: text.into_bytes(), executable } }
}

fn filled(template: &str, role: &str, base: &str) -> String {
    template.replace("@role@", role).replace("@base@", base)
}

/// The role `name` for `project`, on `extends` or else on what roles usually stand on; and what it stands on.
///
/// # Errors
/// There is an image of this name, or no image that it could stand on.
pub fn new_role(
    project: &Project,
    name: &ImageName,
    extends: Option<&str>,
) -> Result<(Vec<Entry>, ImageName), Error> {
    if project.image(name.as_str()).is_ok() {
        return Err(Error::Exists { name: name.to_string() });
    }
    let base = match extends {
        Some(extends) => project.image(extends).map_err(Box::new)?,
        None => project.image(USUAL_BASE).map_err(|_| Error::no_base(project))?,
    };
    if base.boot.is_some() || base.machine.is_some() {
        return Err(Error::NotABase {
            name: base.name.to_string(),
            candidates: error::candidates(project),
        });
    }
    let has_firewall = project
        .stack(base.name.as_str())
        .unwrap_or_default()
        .iter()
        .any(|image| has_file(project, image, FIREWALL));
    Ok((role(name.as_str(), base.name.as_str(), has_firewall), base.name.clone()))
}

/// Whether the definition has this file, rendered or copied.
fn has_file(project: &Project, image: &Image, path: &str) -> bool {
    let files = project.root().join("images").join(image.name.as_str()).join("files");
    ["", ".hbs"].iter().any(|end| files.join(format!("{path}{end}")).is_file())
}

#[cfg(test)]
mod tests;
