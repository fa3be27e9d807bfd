//! Triggers: what packages do when files of others change (deb-triggers(5), and
//! doc/triggers.txt of dpkg).
//!
//! `/var/lib/dpkg/triggers/File` holds a line `PATH PACKAGE[/noawait]` for each interest in a
//! path, `/var/lib/dpkg/triggers/NAME` a line `PACKAGE[/noawait]` for each interest in an
//! explicit trigger. `Unincorp` lists triggers that were activated while dpkg itself did not
//! run, a line `TRIGGER PACKAGE…` each with the packages that wait for it or `-`; dpkg takes
//! them over at its next start.

use std::collections::{BTreeMap, HashSet};

use super::root::Root;
use super::{Error, admin, io_error, lines, read, syntax};

/// A line of the control file `triggers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directive {
    /// The package is interested in a trigger.
    Interest {
        /// An absolute path, or the name of an explicit trigger.
        trigger: String,
        /// Whether packages that activate it wait for it.
        awaited: bool,
    },
    /// The package activates a trigger when its state changes.
    Activate {
        /// An absolute path, or the name of an explicit trigger.
        trigger: String,
        /// Whether the package waits for it.
        awaited: bool,
    },
}

/// Reads the control file `triggers`; `package` names the package in errors.
pub fn parse_directives(text: &[u8], package: &str) -> Result<Vec<Directive>, Error> {
    let wrong = |problem: String| Error::Control { package: package.to_owned(), problem };
    let mut directives = Vec::new();
    for line in lines(text) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let text = String::from_utf8_lossy(line);
        let (directive, trigger) = text.split_once([' ', '\t']).unwrap_or((text.as_ref(), ""));
        let trigger = trigger.trim().to_owned();
        if !is_trigger(&trigger) {
            return Err(wrong(format!("`{trigger}` is not the name of a trigger")));
        }
        let awaited = !directive.ends_with("-noawait");
        directives.push(match directive {
            "interest" | "interest-await" | "interest-noawait" => {
                Directive::Interest { trigger, awaited }
            }
            "activate" | "activate-await" | "activate-noawait" => {
                Directive::Activate { trigger, awaited }
            }
            other => return Err(wrong(format!("unknown trigger directive `{other}`"))),
        });
    }
    Ok(directives)
}

/// An absolute path without empty components, or the name of an explicit trigger, which has the
/// form of the name of a package.
fn is_trigger(name: &str) -> bool {
    match name.strip_prefix('/') {
        Some(path) => {
            path.split('/').all(|component| !component.is_empty())
                && name.bytes().all(|byte| byte.is_ascii_graphic())
        }
        None => crate::debian::relation::is_package_name(name) && !name.contains('_'),
    }
}

/// The interests that packages have registered, and the activations that wait for dpkg.
#[derive(Debug, Default)]
pub struct Triggers {
    /// Lines of `triggers/File`, in their order.
    files: Vec<(Vec<u8>, String)>,
    interesting: HashSet<Vec<u8>>,
    /// Lines of the files of explicit triggers that have changed.
    explicit: BTreeMap<String, Vec<String>>,
    /// Lines to add to `Unincorp`.
    activations: Vec<Vec<u8>>,
}

impl Triggers {
    /// Reads the interests in paths.
    pub fn load(root: &Root) -> Result<Self, Error> {
        let path = admin("triggers/File");
        let mut triggers = Self::default();
        for (index, line) in lines(&read(root, &path)?.unwrap_or_default()).enumerate() {
            let space = line.iter().rposition(|&byte| byte == b' ');
            let (Some(space), Some(b'/')) = (space, line.first()) else {
                return Err(syntax(root, &path, index + 1, "not an interest in a path"));
            };
            let package = String::from_utf8_lossy(&line[space + 1..]).into_owned();
            triggers.interesting.insert(line[..space].to_vec());
            triggers.files.push((line[..space].to_vec(), package));
        }
        Ok(triggers)
    }

    /// Whether any package is interested in `path`.
    pub fn is_interesting(&self, path: &[u8]) -> bool {
        self.interesting.contains(path)
    }

    /// Registers the interests of `package` (a database name).
    pub fn register(
        &mut self,
        root: &Root,
        package: &str,
        directives: &[Directive],
    ) -> Result<(), Error> {
        for directive in directives {
            let Directive::Interest { trigger, awaited } = directive else { continue };
            let line = format!("{package}{}", if *awaited { "" } else { "/noawait" });
            if trigger.starts_with('/') {
                let trigger = trigger.as_bytes();
                self.files.retain(|(path, other)| path != trigger || !names(other, package));
                self.files.push((trigger.to_vec(), line));
                self.interesting.insert(trigger.to_vec());
                continue;
            }
            if !self.explicit.contains_key(trigger) {
                let text = read(root, &admin(&format!("triggers/{trigger}")))?.unwrap_or_default();
                let known = lines(&text).map(|line| String::from_utf8_lossy(line).into_owned());
                self.explicit.insert(trigger.clone(), known.collect());
            }
            let interests = self.explicit.entry(trigger.clone()).or_default();
            interests.retain(|other| !names(other, package));
            interests.push(line);
        }
        Ok(())
    }

    /// Notes that `package` (a database name) activates `trigger`, and waits for it if `awaited`.
    pub fn activate(&mut self, trigger: &[u8], package: &str, awaited: bool) {
        let waiting = if awaited { package } else { "-" };
        let line = [trigger, b" ", waiting.as_bytes()].concat();
        if !self.activations.contains(&line) {
            self.activations.push(line);
        }
    }

    /// Writes what has changed.
    pub fn save(&mut self, root: &Root) -> Result<(), Error> {
        let write = |name: &str, content: Vec<u8>| {
            let path = admin(&format!("triggers/{name}"));
            root.replace(&path, &content, 0o644)
                .map_err(|source| io_error(root, "write", &path, source))
        };
        if !self.files.is_empty() {
            let mut content = Vec::new();
            for (path, package) in &self.files {
                content.extend_from_slice(path);
                content.extend_from_slice(format!(" {package}\n").as_bytes());
            }
            write("File", content)?;
        }
        for (name, interests) in std::mem::take(&mut self.explicit) {
            write(&name, format!("{}\n", interests.join("\n")).into_bytes())?;
        }
        if !self.activations.is_empty() {
            let mut content = read(root, &admin("triggers/Unincorp"))?.unwrap_or_default();
            for line in std::mem::take(&mut self.activations) {
                content.extend_from_slice(&line);
                content.push(b'\n');
            }
            write("Unincorp", content)?;
        }
        Ok(())
    }
}

/// Whether the interest `line` is one of `package`.
fn names(line: &str, package: &str) -> bool {
    line.split('/').next() == Some(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_as_dpkg_reads_them() {
        let text = b"# comment\n\n interest /usr/share/man \ninterest-noawait ldconfig\n\
                     activate-noawait\tldconfig\nactivate-await /x\n";
        let awaited = [true, false, false, true];
        let found = parse_directives(text, "x").unwrap();
        assert_eq!(found.len(), 4);
        for (directive, expected) in found.iter().zip(awaited) {
            let (Directive::Interest { awaited, .. } | Directive::Activate { awaited, .. }) =
                directive;
            assert_eq!(*awaited, expected, "{directive:?}");
        }
        for text in ["interest", "interest ../x", "interest /a//b", "watch /x", "interest a/b"] {
            assert!(parse_directives(text.as_bytes(), "x").is_err(), "{text}");
        }
    }
}
