//! Diversions and stat overrides: what an administrator or another package has decided about
//! paths (dpkg-divert(1), dpkg-statoverride(1)).

use std::collections::HashMap;

use super::root::Root;
use super::users::Users;
use super::{Error, admin, read, syntax};

/// Where the packaged file of a path goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diversion {
    /// The path that it goes to.
    pub to: Vec<u8>,
    /// The package whose own file keeps the path; `None`: no package's.
    pub package: Option<String>,
}

/// The diversions, by the contested path.
#[derive(Debug, Default)]
pub struct Diversions {
    diverted: HashMap<Vec<u8>, Diversion>,
    targets: HashMap<Vec<u8>, Vec<u8>>,
}

impl Diversions {
    /// Reads `/var/lib/dpkg/diversions`.
    pub fn load(root: &Root) -> Result<Self, Error> {
        let path = admin("diversions");
        let text = read(root, &path)?.unwrap_or_default();
        Self::parse(&text).map_err(|(line, problem)| syntax(root, &path, line, problem))
    }

    /// Reads the text of that file: three lines each, the contested path, the path diverted to, and the
    /// package or `:`.
    ///
    /// # Errors
    /// The line that cannot be read, from 1, and what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, (usize, &'static str)> {
        let lines: Vec<&[u8]> = super::lines(text).collect();
        let mut diversions = Self::default();
        for (index, lines) in lines.chunks(3).enumerate() {
            let &[from, to, package] = lines else {
                return Err((index * 3 + 1, "the entry is incomplete"));
            };
            let package = std::str::from_utf8(package)
                .map_err(|_| (index * 3 + 3, "not the name of a package"))?;
            let package = (package != ":").then(|| package.to_owned());
            diversions.targets.insert(to.to_vec(), from.to_vec());
            diversions.diverted.insert(from.to_vec(), Diversion { to: to.to_vec(), package });
        }
        Ok(diversions)
    }

    /// The diversion of `path`.
    pub fn of(&self, path: &[u8]) -> Option<&Diversion> {
        self.diverted.get(path)
    }

    /// The contested path of which `path` is the diverted version.
    pub fn diverted_to(&self, path: &[u8]) -> Option<&[u8]> {
        self.targets.get(path).map(Vec::as_slice)
    }

    /// Where the file `path` of `package` goes.
    pub fn place<'a>(&'a self, path: &'a [u8], package: &str) -> &'a [u8] {
        match self.of(path) {
            Some(diversion) if diversion.package.as_deref() != Some(package) => &diversion.to,
            _ => path,
        }
    }
}

/// Owner and mode that a path has whatever the package says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatOverride {
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// Reads `/var/lib/dpkg/statoverride`: lines of user, group, octal mode and path; users and
/// groups by name, or by number after `#`.
pub fn load_stat_overrides(
    root: &Root,
    users: &Users,
) -> Result<HashMap<Vec<u8>, StatOverride>, Error> {
    let path = admin("statoverride");
    let text = read(root, &path)?.unwrap_or_default();
    let mut overrides = HashMap::new();
    for (index, line) in super::lines(&text).enumerate() {
        let wrong = |problem: &str| syntax(root, &path, index + 1, problem);
        let mut fields = line.splitn(4, |&byte| byte == b' ');
        let mut next = || fields.next().ok_or_else(|| wrong("the entry is incomplete"));
        let (user, group, mode, target) = (next()?, next()?, next()?, next()?);
        let uid = number(user).or_else(|| users.user(user));
        let gid = number(group).or_else(|| users.group(group));
        let mode = std::str::from_utf8(mode)
            .ok()
            .and_then(|text| u32::from_str_radix(text, 8).ok())
            .filter(|&mode| mode <= 0o7777);
        let entry = StatOverride {
            uid: uid.ok_or_else(|| wrong("no such user"))?,
            gid: gid.ok_or_else(|| wrong("no such group"))?,
            mode: mode.ok_or_else(|| wrong("not an octal mode"))?,
        };
        overrides.insert(target.to_vec(), entry);
    }
    Ok(overrides)
}

/// The number in `#NUMBER`.
fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text.strip_prefix(b"#")?).ok()?.parse().ok()
}
