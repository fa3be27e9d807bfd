//! Users and groups of a stack.

use std::collections::BTreeMap;

use super::error::{Problem, Result};
use super::image::{Image, User};
use super::name::Account;
use super::place::Place;

/// The users and groups that one definition adds.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// Users by name.
    pub users: BTreeMap<Account, User>,
    /// Numbers of groups by name: those the definition lists and those that go with its users.
    pub groups: BTreeMap<Account, u32>,
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
