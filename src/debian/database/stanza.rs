//! A package's paragraph in dpkg's status file.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::Error;
use crate::debian::{control, relation, version};

/// The fields that dpkg knows, in the order in which it writes them (`fieldinfos` in its
/// parse.c). All other fields follow in their original order.
const FIELDS: [&str; 26] = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Config-Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
    "Description",
];

/// Fields that say something about the state of a system or about an archive; in the control
/// file of a package they mean nothing.
const FOREIGN: [&str; 8] = [
    "Status",
    "Config-Version",
    "Conffiles",
    "Filename",
    "Size",
    "MD5sum",
    "Triggers-Pending",
    "Triggers-Awaited",
];

/// What the control file of a package says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stanza {
    fields: Vec<(String, String)>,
    /// The name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    pub architecture: String,
}

/// A configuration file, as named by the control file `conffiles` (deb-conffiles(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conffile {
    /// The absolute path.
    pub path: Vec<u8>,
    /// The package does not ship it any more; an upgrade removes it.
    pub remove_on_upgrade: bool,
}

impl Stanza {
    /// Reads the `control` file of a package; `origin` names it in errors.
    pub fn parse(text: &[u8], origin: &str) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Control { package: origin.to_owned(), problem };
        let text = std::str::from_utf8(text)
            .map_err(|_| wrong("its control file is not UTF-8".to_owned()))?;
        let mut paragraphs = control::paragraphs(text);
        let (Some(paragraph), None) = (paragraphs.next(), paragraphs.next()) else {
            return Err(wrong("its control file is not one paragraph".to_owned()));
        };
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut names = HashSet::new();
        for field in control::fields(paragraph) {
            let (name, value) = field.map_err(|error| wrong(format!("control file: {error}")))?;
            if !names.insert(name.to_ascii_lowercase()) {
                return Err(wrong(format!("its control file has the field {name} twice")));
            }
            fields.push((name.to_owned(), value.to_owned()));
        }
        let required = |name: &str| match find(&fields, name) {
            Some(value) if !value.is_empty() => Ok(value.to_owned()),
            _ => Err(wrong(format!("its control file has no field {name}"))),
        };
        let name = required("Package")?;
        let (version, architecture) = (required("Version")?, required("Architecture")?);
        if !relation::is_package_name(&name) {
            return Err(wrong(format!("`{name}` is not the name of a package")));
        }
        if !is_architecture(&architecture) {
            return Err(wrong(format!("`{architecture}` is not an architecture")));
        }
        if let Err(reason) = version::validate(&version) {
            return Err(wrong(format!("`{version}` is not a version: {reason}")));
        }
        let stanza = Self { fields, name, version, architecture };
        if stanza.is_multi_arch_same() && stanza.architecture == "all" {
            let problem = "it is for all architectures and yet `Multi-Arch: same`";
            return Err(wrong(problem.to_owned()));
        }
        Ok(stanza)
    }

    /// The value of the field `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        find(&self.fields, name)
    }

    /// Whether packages of this name for several architectures may be installed side by side.
    pub fn is_multi_arch_same(&self) -> bool {
        self.field("Multi-Arch") == Some("same")
    }

    /// Whether the package is `Essential: yes`.
    pub fn is_essential(&self) -> bool {
        self.field("Essential") == Some("yes")
    }

    /// The name by which dpkg's database files know the package: with the architecture where
    /// there can be several.
    pub fn database_name(&self) -> String {
        database_name(&self.name, &self.architecture, self.is_multi_arch_same())
    }

    /// The status paragraph after unpacking, without an empty line at the end.
    pub fn unpacked(&self, conffiles: &[Conffile]) -> Vec<u8> {
        self.paragraph("install ok unpacked", &FIELDS, conffiles, true)
    }

    /// The status paragraph while `preinst` runs.
    pub fn half_installed(&self) -> Vec<u8> {
        let fields = ["Package", "Status", "Priority", "Section", "Architecture", "Multi-Arch"];
        let fields = [fields.as_slice(), ["Version"].as_slice()].concat();
        self.paragraph("install reinstreq half-installed", &fields, &[], false)
    }

    fn paragraph(
        &self,
        status: &str,
        fields: &[&str],
        conffiles: &[Conffile],
        others: bool,
    ) -> Vec<u8> {
        let mut text = String::new();
        let mut bytes = Vec::new();
        for &name in fields {
            match name {
                "Status" => _ = writeln!(text, "Status: {status}"),
                "Conffiles" if !conffiles.is_empty() => {
                    text.push_str("Conffiles:\n");
                    bytes.extend_from_slice(text.as_bytes());
                    text.clear();
                    for conffile in conffiles {
                        bytes.push(b' ');
                        bytes.extend_from_slice(&conffile.path);
                        bytes.extend_from_slice(b" newconffile");
                        if conffile.remove_on_upgrade {
                            bytes.extend_from_slice(b" remove-on-upgrade");
                        }
                        bytes.push(b'\n');
                    }
                }
                name if FOREIGN.contains(&name) => {}
                name => match self.field(name) {
                    Some(value) if !value.is_empty() => _ = writeln!(text, "{name}: {value}"),
                    _ => {}
                },
            }
        }
        let known = FIELDS.iter().chain(&FOREIGN);
        for (name, value) in self.fields.iter().filter(|_| others) {
            if !known.clone().any(|known| known.eq_ignore_ascii_case(name)) {
                _ = writeln!(text, "{name}: {value}");
            }
        }
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }
}

/// `NAME`, or `NAME:ARCHITECTURE` for packages that are `Multi-Arch: same`.
pub fn database_name(name: &str, architecture: &str, multi_arch_same: bool) -> String {
    match multi_arch_same {
        true => format!("{name}:{architecture}"),
        false => name.to_owned(),
    }
}

/// Reads the control file `conffiles`; `package` names the package in errors.
pub fn parse_conffiles(text: &[u8], package: &str) -> Result<Vec<Conffile>, Error> {
    let wrong = |problem: &str| Error::Control {
        package: package.to_owned(),
        problem: format!("its list of configuration files {problem}"),
    };
    if !text.is_empty() && !text.ends_with(b"\n") {
        return Err(wrong("has no line end at its end"));
    }
    let mut conffiles = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii_end();
        let (path, remove_on_upgrade) = match line.strip_prefix(b"remove-on-upgrade ") {
            Some(path) => (path, true),
            None => (line, false),
        };
        match path.first() {
            None if !remove_on_upgrade => continue,
            Some(b'/') => conffiles.push(Conffile { path: path.to_vec(), remove_on_upgrade }),
            _ => return Err(wrong("has a line that is not an absolute path")),
        }
    }
    Ok(conffiles)
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let field = fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
    Some(&field.1)
}

/// Letters, digits and `-`, the first a letter or digit (`dpkg_arch_name_is_illegal` of dpkg).
fn is_architecture(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: &str = "Package: x\nVersion: 1\nTag: a\nEssential: yes\nArchitecture: amd64\n\
                           Maintainer: M <m@example.org>\ndepends: y\nDescription: short\n long\n";

    #[test]
    fn fields_come_in_the_order_of_dpkg() {
        let stanza = Stanza::parse(CONTROL.as_bytes(), "x").unwrap();
        let conffiles = parse_conffiles(b"/etc/x\nremove-on-upgrade /etc/y\n", "x").unwrap();
        assert_eq!(
            String::from_utf8(stanza.unpacked(&conffiles)).unwrap(),
            "Package: x\nEssential: yes\nStatus: install ok unpacked\n\
             Maintainer: M <m@example.org>\nArchitecture: amd64\nVersion: 1\nDepends: y\n\
             Conffiles:\n /etc/x newconffile\n /etc/y newconffile remove-on-upgrade\n\
             Description: short\n long\nTag: a\n"
        );
        assert_eq!(
            String::from_utf8(stanza.half_installed()).unwrap(),
            "Package: x\nStatus: install reinstreq half-installed\nArchitecture: amd64\nVersion: 1\n"
        );
    }

    #[test]
    fn control_files_that_would_break_the_database_are_refused() {
        for (name, text) in [
            ("two paragraphs", format!("{CONTROL}\n{CONTROL}")),
            ("field twice", format!("{CONTROL}Tag: b\n")),
            ("no version", CONTROL.replace("Version: 1\n", "")),
            ("path as name", CONTROL.replace("Package: x", "Package: ../x")),
            ("path as architecture", CONTROL.replace("amd64", "../x")),
            ("no valid version", CONTROL.replace("Version: 1", "Version: x")),
            ("all and same", CONTROL.replace("amd64", "all\nMulti-Arch: same")),
            ("empty", String::new()),
        ] {
            assert!(Stanza::parse(text.as_bytes(), "x").is_err(), "{name}");
        }
    }

    /// Each was compared with all before it: this would not end.
    #[test]
    fn many_fields_are_read_in_time() {
        let many: String = (0..100_000).map(|number| format!("X-{number}: a\n")).collect();
        let stanza = Stanza::parse(format!("{CONTROL}{many}").as_bytes(), "x").unwrap();
        assert_eq!(stanza.field("x-99999"), Some("a"));
    }

    #[test]
    fn malformed_lists_of_configuration_files_are_refused() {
        for text in ["/etc/x", "etc/x\n", "remove-on-upgrade \n", "other-flag /etc/x\n"] {
            assert!(parse_conffiles(text.as_bytes(), "x").is_err(), "{text:?}");
        }
        assert_eq!(parse_conffiles(b"", "x").unwrap(), []);
    }
}
