//! One entry of a `Packages` file.

use super::{Error, Origin, Package, Priority};
use crate::debian::{control, relation, version};

/// Reads one entry of a `Packages` file.
pub(super) fn parse(paragraph: &str, origin: Origin) -> Result<Package<'_>, Error> {
    let mut found = Found::default();
    for field in control::fields(paragraph) {
        let (name, value) =
            field.map_err(|source| Error::Malformed { package: found.label(), source })?;
        let Some(slot) = found.slot(name) else { continue };
        if slot.1.replace(value).is_some() {
            let field = slot.0;
            return Err(Error::Field { package: found.label(), field });
        }
    }
    found.package(origin)
}

/// Declares the fields that are read, each once, with the name that it has in the file.
macro_rules! fields {
    ($($name:literal => $field:ident),* $(,)?) => {
        #[derive(Default)]
        struct Found<'a> { $($field: Option<&'a str>),* }

        impl<'a> Found<'a> {
            /// The official name of the field called `name`, whatever its case, and its place.
            fn slot(&mut self, name: &str) -> Option<(&'static str, &mut Option<&'a str>)> {
                // Nearly all names are written as they should be, and matching those is fast.
                match name {
                    $($name => return Some(($name, &mut self.$field)),)*
                    _ => {}
                }
                $(if name.eq_ignore_ascii_case($name) { return Some(($name, &mut self.$field)); })*
                None
            }
        }
    };
}

fields! {
    "Package" => package,
    "Version" => version,
    "Architecture" => architecture,
    "Multi-Arch" => multi_arch,
    "Essential" => essential,
    "Priority" => priority,
    "Pre-Depends" => pre_depends,
    "Depends" => depends,
    "Conflicts" => conflicts,
    "Breaks" => breaks,
    "Provides" => provides,
    "Filename" => filename,
    "Size" => size,
    "SHA256" => sha256,
}

impl<'a> Found<'a> {
    fn label(&self) -> String {
        self.package.unwrap_or("?").to_owned()
    }

    fn package(self, origin: Origin) -> Result<Package<'a>, Error> {
        let error = |field| Error::Field { package: self.label(), field };
        let valid = |value: Option<&'a str>, field, is_valid: fn(&str) -> bool| {
            value.filter(|value| is_valid(value)).ok_or_else(|| error(field))
        };
        Ok(Package {
            origin,
            name: valid(self.package, "Package", relation::is_package_name)?,
            version: valid(self.version, "Version", |text| version::validate(text).is_ok())?,
            architecture: valid(self.architecture, "Architecture", is_architecture)?,
            // In flat repositories paths begin with `./`.
            path: valid(self.filename.map(without_dot), "Filename", is_pool_path)?,
            size: self.size.and_then(|size| size.parse().ok()).ok_or_else(|| error("Size"))?,
            sha256: self
                .sha256
                .and_then(|digest| digest.parse().ok())
                .ok_or_else(|| error("SHA256"))?,
            departed: false,
            essential: self.essential == Some("yes"),
            multi_arch_allowed: self.multi_arch == Some("allowed"),
            priority: match self.priority {
                Some("required") => Priority::Required,
                Some("important") => Priority::Important,
                Some("standard") => Priority::Standard,
                Some("extra") => Priority::Extra,
                _ => Priority::Optional,
            },
            pre_depends: self.pre_depends.unwrap_or(""),
            depends: self.depends.unwrap_or(""),
            conflicts: self.conflicts.unwrap_or(""),
            breaks: self.breaks.unwrap_or(""),
            provides: self.provides.unwrap_or(""),
        })
    }
}

/// `path` without `./` at its beginning.
fn without_dot(path: &str) -> &str {
    path.trim_start_matches("./")
}

/// Whether `text` can be the name of an architecture.
pub fn is_architecture(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether `path` is a plain relative path, which can be put behind the URL of a repository
/// without leading elsewhere.
pub fn is_pool_path(path: &str) -> bool {
    let plain = |byte| {
        matches!(
            byte,
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'-' | b'+' | b'.' | b'_' | b'~'
                | b':' | b'%' | b'@' | b',' | b'='
        )
    };
    path.bytes().all(plain)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}
