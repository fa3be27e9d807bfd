//! Users and groups.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::Change;
use crate::inspect::Error;
use crate::inspect::image::Image;
use crate::inspect::tree::Tree;

/// A user, as passwd(5) describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Account {
    /// The number.
    pub uid: u32,
    /// The number of the primary group.
    pub gid: u32,
    /// The home directory.
    pub home: String,
    /// The login shell.
    pub shell: String,
}

/// A group, as group(5) describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GroupEntry {
    /// The number.
    pub gid: u32,
    /// Users that are in it besides those whose primary group it is.
    pub members: Vec<String>,
}

/// The users and groups of an image, by name.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    users: BTreeMap<String, Account>,
    groups: BTreeMap<String, GroupEntry>,
}

impl Accounts {
    /// Those that the tree has.
    ///
    /// # Errors
    /// A layer cannot be read.
    pub(super) fn read(tree: &Tree<'_>) -> Result<Self, Error> {
        let users = tree.text("etc/passwd")?;
        let users = users.lines().filter_map(|line| {
            let [name, _, uid, gid, _, home, shell] = fields(line)?;
            let (home, shell) = (home.to_owned(), shell.to_owned());
            let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
            Some((name.to_owned(), Account { uid, gid, home, shell }))
        });
        let groups = tree.text("etc/group")?;
        let groups = groups.lines().filter_map(|line| {
            let [name, _, gid, members] = fields(line)?;
            let members = members.split(',').filter(|name| !name.is_empty());
            let members = members.map(str::to_owned).collect();
            Some((name.to_owned(), GroupEntry { gid: gid.parse().ok()?, members }))
        });
        Ok(Self { users: users.collect(), groups: groups.collect() })
    }

    /// Those of `image`, as far as they are known: of the `tree` that its layers make, or else of its definitions.
    ///
    /// # Errors
    /// A layer cannot be read.
    pub(in crate::inspect) fn of(
        image: &Image,
        tree: Option<&Tree<'_>>,
    ) -> Result<Option<Self>, Error> {
        match tree {
            Some(tree) => Self::read(tree).map(Some),
            None => Ok(Self::defined(image)),
        }
    }

    /// The users, by name.
    pub(in crate::inspect) fn users(self) -> BTreeMap<String, Account> {
        self.users
    }

    /// Those that definitions make, where the image comes from definitions.
    pub(super) fn defined(image: &Image) -> Option<Self> {
        let defined = image.defined.as_ref()?;
        let users = defined.users.iter().map(|user| {
            let account = Account {
                uid: user.uid,
                gid: user.gid,
                home: user.home.clone(),
                shell: user.shell.clone(),
            };
            (user.name.clone(), account)
        });
        let groups = defined.groups.iter().map(|group| {
            let entry = GroupEntry { gid: group.gid, members: Vec::new() };
            (group.name.clone(), entry)
        });
        Some(Self { users: users.collect(), groups: groups.collect() })
    }
}

/// The fields of a line, if there are just so many.
fn fields<const COUNT: usize>(line: &str) -> Option<[&str; COUNT]> {
    line.split(':').collect::<Vec<_>>().try_into().ok()
}

pub(super) fn changes(
    old: &Accounts,
    new: &Accounts,
) -> (Vec<Change<Account>>, Vec<Change<GroupEntry>>) {
    (super::changes(&old.users, &new.users), super::changes(&old.groups, &new.groups))
}
