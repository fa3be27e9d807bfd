//! Users and groups of a stack.

use std::collections::BTreeMap;

use super::document::Item;
use super::error::{Problem, Result};
use super::image::Image;
use super::name::{AbsolutePath, Account, is_account};
use super::place::Place;
use super::schema;

/// A system user.
#[derive(Clone, Debug)]
pub struct User {
    /// The user's number, 100 to 64999.
    pub uid: u32,
    /// The number of the primary group, which has the user's name unless another group has it.
    pub gid: u32,
    /// The home directory; it is not created.
    pub home: AbsolutePath,
    /// The login shell.
    pub shell: AbsolutePath,
    /// The comment field of passwd(5).
    pub comment: String,
    /// Where the user is defined.
    pub place: Place,
}

/// A system group.
#[derive(Clone, Debug)]
pub struct Group {
    /// The group's number, 100 to 64999.
    pub gid: u32,
    /// Where the group is defined.
    pub place: Place,
}

/// The users and groups that one definition adds.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// Users by name.
    pub users: BTreeMap<Account, User>,
    /// Numbers of groups by name: those the definition lists and those that go with its users.
    pub groups: BTreeMap<Account, u32>,
}

/// Numbers that belong to nobody yet: below 100 are Debian's own, above 64999 are reserved
/// (Debian Policy Manual, section 9.2.2).
fn identifier(item: &Item) -> Result<u32> {
    item.integer_in(100..=64999, "a number from 100 to 64999")
}

impl User {
    /// Reads `[users.NAME]`.
    pub(super) fn read(place: &Place, item: &Item) -> Result<Self> {
        let table = item.table(&schema::USER.names())?;
        let uid = identifier(table.require("uid")?)?;
        let path = |key, default: &str| match table.get(key) {
            Some(item) => passwd_path(item),
            None => default.parse().map_err(|_| item.unexpected("a path")),
        };
        Ok(Self {
            uid,
            gid: table.optional("gid", identifier)?.unwrap_or(uid),
            home: path("home", "/nonexistent")?,
            shell: path("shell", "/usr/sbin/nologin")?,
            comment: table.optional("comment", comment)?.unwrap_or_default(),
            place: place.clone(),
        })
    }
}

/// A colon separates the fields of passwd(5).
fn passwd_path(item: &Item) -> Result<AbsolutePath> {
    let path: AbsolutePath = item.parse()?;
    if path.as_str().contains(':') {
        return Err(item.unexpected("a path without `:`"));
    }
    Ok(path)
}

fn comment(item: &Item) -> Result<String> {
    let text = item.line()?;
    if text.contains(':') {
        return Err(item.unexpected("one line of text without `:`"));
    }
    Ok(text)
}

impl Group {
    /// Reads `[groups.NAME]`.
    pub(super) fn read(place: &Place, item: &Item) -> Result<Self> {
        let table = item.table(&schema::GROUP.names())?;
        Ok(Self { gid: identifier(table.require("gid")?)?, place: place.clone() })
    }
}

/// The name of a user or group, or its number, 0 to 65534.
pub(super) fn owner(item: &Item) -> Result<String> {
    let text = item.string()?;
    let number = text.parse::<u16>().is_ok_and(|id| id < u16::MAX && id.to_string() == text);
    if !number && !is_account(text) {
        return Err(item.unexpected("the name or number of a user or group"));
    }
    Ok(text.to_owned())
}

/// The accounts of each image of `stack`. No name and no number is given twice; a user whose
/// primary group no `[groups]` entry names gets a group of the user's name.
pub(super) fn accounts(stack: &[&Image]) -> Result<Vec<Accounts>> {
    let mut users = Taken::default();
    let mut groups = Taken::default();
    let mut result = Vec::with_capacity(stack.len());
    for image in stack {
        let mut accounts = Accounts { users: image.users.clone(), ..Accounts::default() };
        for (name, user) in &image.users {
            users.take("user", name, user.uid, &user.place)?;
        }
        for (name, group) in &image.groups {
            groups.take("group", name, group.gid, &group.place)?;
            accounts.groups.insert(name.clone(), group.gid);
        }
        // A user with a group of its own number comes first: others may name that group.
        let (own, other): (Vec<_>, Vec<_>) =
            image.users.iter().partition(|(_, user)| user.uid == user.gid);
        for (name, user) in own.into_iter().chain(other) {
            if !groups.numbers.contains_key(&user.gid) {
                groups.take("group", name, user.gid, &user.place)?;
                accounts.groups.insert(name.clone(), user.gid);
            }
        }
        result.push(accounts);
    }
    Ok(result)
}

/// Names and numbers in use, and where they were given.
#[derive(Default)]
struct Taken<'a> {
    names: BTreeMap<&'a Account, &'a Place>,
    numbers: BTreeMap<u32, &'a Place>,
}

impl<'a> Taken<'a> {
    fn take(&mut self, kind: &str, name: &'a Account, number: u32, place: &'a Place) -> Result<()> {
        let duplicate = |what, other: &Place| {
            place.error(Problem::Duplicate { what, taken: format!("taken at {other}") })
        };
        if let Some(other) = self.names.insert(name, place) {
            return Err(duplicate(format!("{kind} `{name}`"), other));
        }
        if let Some(other) = self.numbers.insert(number, place) {
            return Err(duplicate(format!("the number {number} of {kind} `{name}`"), other));
        }
        Ok(())
    }
}
