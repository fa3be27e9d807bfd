//! Directories that outlive images.

use super::account::owner;
use super::document::Item;
use super::error::{Problem, Result};
use super::name::{AbsolutePath, Mode, VolumeName};
use super::place::Place;
use super::schema;

/// A directory that lives on a volume of its own.
#[derive(Clone, Debug)]
pub struct State {
    /// What its disk and its file system are known by: `state-NAME`.
    pub name: VolumeName,
    /// The mount point.
    pub path: AbsolutePath,
    /// The owner of its root: a name or a number.
    pub owner: String,
    /// The group of its root: a name or a number.
    pub group: String,
    /// The permissions of its root.
    pub mode: Mode,
    /// What it holds.
    pub doc: String,
    /// Where it is declared.
    pub place: Place,
}

impl State {
    /// Reads an entry of `[[state]]`.
    pub(super) fn read(item: &Item) -> Result<Self> {
        let table = item.table(&schema::STATE.names())?;
        let path = table.require("path")?;
        Ok(Self {
            name: table.optional("name", Item::parse)?.map_or_else(|| volume_name(path), Ok)?,
            path: path.parse()?,
            owner: table.optional("owner", owner)?.unwrap_or_else(|| "root".to_owned()),
            group: table.optional("group", owner)?.unwrap_or_else(|| "root".to_owned()),
            mode: table.optional("mode", Item::parse)?.unwrap_or(Mode::EXECUTABLE),
            doc: table.require("doc")?.line()?,
            place: path.place.clone(),
        })
    }
}

/// The last component of the path, where that can be a name.
fn volume_name(path: &Item) -> Result<VolumeName> {
    let text: AbsolutePath = path.parse()?;
    let last = text.as_str().rsplit('/').next().unwrap_or_default();
    last.parse().map_err(|expected| {
        let help = format!("give the volume a name of its own: `name = \"…\"`, {expected}");
        let problem = format!("`{last}` cannot be the name of a state volume");
        path.place.error_with_help(Problem::Contradiction(problem), Some(help))
    })
}
