//! Users and groups with fixed numbers, made before any package of the layer runs a script.
//!
//! A state volume outlives its image, and its files belong to numbers: a package script that takes the next
//! free number would lock a service out of its data when two packages swap their order. Debian's
//! adduser(8) and systemd-sysusers(8) leave an existing user as it is.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A system user, as passwd(5) and shadow(5) describe it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The numeric user id.
    pub uid: u32,
    /// The numeric id of its primary group.
    pub gid: u32,
    /// The home directory, which is not created.
    pub home: String,
    /// The login shell.
    pub shell: String,
    /// The comment field.
    pub comment: String,
}

/// A group, as group(5) and gshadow(5) describe it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// The numeric group id.
    pub gid: u32,
}

/// An account that cannot be made because the name or number is taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name exists with another number, or a number with another name.
    #[error("`{name}` with number {number} collides with `{line}` in {file}")]
    Taken {
        /// The wanted name.
        name: String,
        /// The wanted number.
        number: u32,
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
        /// The line that is there.
        line: String,
    },
    /// A file that cannot be read or written.
    #[error("cannot change the account files of the image")]
    Io(#[from] io::Error),
}

/// Makes the accounts in the tree at `root`, unless they exist already. In a tree without account
/// files, those of the package base-passwd are put into place first, as its own script would do.
///
/// # Errors
/// When a name or a number is taken by another account.
pub fn create(root: &Path, users: &[User], groups: &[Group]) -> Result<(), Error> {
    if users.is_empty() && groups.is_empty() {
        return Ok(());
    }
    let mut files = Files::read(root)?;
    for group in groups {
        files.add_group(&group.name, group.gid)?;
    }
    for user in users {
        files.add_user(user)?;
    }
    files.write(root)?;
    Ok(())
}

struct Files {
    passwd: String,
    group: String,
    shadow: Option<String>,
    gshadow: Option<String>,
}

impl Files {
    fn read(root: &Path) -> io::Result<Self> {
        let optional = |path: &str| match fs::read_to_string(root.join(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let or_master = |path: &str, master: &str| match optional(path)? {
            Some(text) => Ok::<_, io::Error>(text),
            None => fs::read_to_string(root.join(master)),
        };
        Ok(Self {
            passwd: or_master("etc/passwd", "usr/share/base-passwd/passwd.master")?,
            group: or_master("etc/group", "usr/share/base-passwd/group.master")?,
            shadow: optional("etc/shadow")?,
            gshadow: optional("etc/gshadow")?,
        })
    }

    fn write(&self, root: &Path) -> io::Result<()> {
        // Written in place: the files keep their owner and mode (0640 root:shadow).
        fs::write(root.join("etc/passwd"), &self.passwd)?;
        fs::write(root.join("etc/group"), &self.group)?;
        for (path, text) in [("etc/shadow", &self.shadow), ("etc/gshadow", &self.gshadow)] {
            if let Some(text) = text {
                fs::write(root.join(path), text)?;
            }
        }
        Ok(())
    }

    fn add_group(&mut self, name: &str, gid: u32) -> Result<(), Error> {
        if exists(&self.group, "/etc/group", name, gid)? {
            return Ok(());
        }
        push(&mut self.group, &format!("{name}:x:{gid}:"));
        if let Some(gshadow) = &mut self.gshadow {
            push(gshadow, &format!("{name}:!::"));
        }
        Ok(())
    }

    fn add_user(&mut self, user: &User) -> Result<(), Error> {
        let User { name, uid, gid, home, shell, comment } = user;
        if exists(&self.passwd, "/etc/passwd", name, *uid)? {
            return Ok(());
        }
        push(&mut self.passwd, &format!("{name}:x:{uid}:{gid}:{comment}:{home}:{shell}"));
        if let Some(shadow) = &mut self.shadow {
            // `!*`: no password, and none that unlocking would bring back. No date of the last change.
            push(shadow, &format!("{name}:!*:::::::"));
        }
        Ok(())
    }
}

fn push(text: &mut String, line: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
}

fn exists(text: &str, file: &'static str, name: &str, number: u32) -> Result<bool, Error> {
    for line in text.lines() {
        let mut fields = line.split(':');
        let same_name = fields.next() == Some(name);
        let same_number = fields.nth(1).and_then(|field| field.parse().ok()) == Some(number);
        match (same_name, same_number) {
            (true, true) => return Ok(true),
            (false, false) => {}
            _ => {
                let (name, line) = (name.to_owned(), line.to_owned());
                return Err(Error::Taken { name, number, file, line });
            }
        }
    }
    Ok(false)
}

/// The number of `name` in the text of a passwd(5) or group(5) file; decimal names are numbers.
pub fn number_of(text: &str, name: &str) -> Option<u32> {
    let by_name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    by_name.or_else(|| name.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, uid: u32) -> User {
        User {
            name: name.into(),
            uid,
            gid: uid,
            home: "/nonexistent".into(),
            shell: "/usr/sbin/nologin".into(),
            comment: String::new(),
        }
    }

    #[test]
    fn accounts_are_made_once_and_collisions_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("passwd"), "root:x:0:0:root:/root:/bin/bash\n").unwrap();
        fs::write(etc.join("group"), "root:x:0:\n").unwrap();
        fs::write(etc.join("shadow"), "root:*:1::::::\n").unwrap();
        for _ in 0..2 {
            let group = Group { name: "mysql".into(), gid: 970 };
            create(root.path(), &[user("mysql", 970)], &[group]).unwrap();
            let passwd = fs::read_to_string(etc.join("passwd")).unwrap();
            assert_eq!(passwd.lines().count(), 2);
            assert_eq!(number_of(&passwd, "mysql"), Some(970));
            let shadow = fs::read_to_string(etc.join("shadow")).unwrap();
            assert!(shadow.ends_with("mysql:!*:::::::\n"), "{shadow}");
        }
        for (name, uid) in [("mysql", 971), ("other", 970)] {
            let error = create(root.path(), &[user(name, uid)], &[]).unwrap_err();
            assert!(matches!(error, Error::Taken { .. }), "{error}");
        }
    }

    #[test]
    fn a_name_that_is_a_number_is_that_number() {
        assert_eq!(number_of("root:x:0:\n", "33"), Some(33));
        assert_eq!(number_of("root:x:0:\n", "nobody"), None);
    }
}
