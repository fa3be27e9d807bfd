//! What `/usr/share/doc/PACKAGE/copyright` says of licences, in the words of SPDX.
//!
//! Only what is in the machine-readable form 1.0 is read
//! (<https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>), and only names that mean one licence
//! of SPDX's list are translated. Nothing is guessed: not what a text that nobody made for machines says, nor
//! what `MIT`, `BSD`, `Artistic` or `public-domain` stand for, which each mean several texts or none.

use std::collections::BTreeSet;

use crate::debian::control;

/// How the first line of the file begins that names its form.
const FORMAT: &str = "www.debian.org/doc/packaging-manuals/copyright-format/1.0";

/// The licences of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Licence {
    /// All of them as one expression of SPDX, if every one has a name there.
    pub expression: Option<String>,
    /// What the package itself calls them, sorted. Empty if no machine can read what it says.
    pub names: Vec<String>,
}

impl Licence {
    /// What the text of a copyright file says.
    pub fn read(text: &str) -> Self {
        let mut paragraphs = control::paragraphs(text);
        let header = paragraphs.next().unwrap_or_default();
        let format = control::field(header, "Format").ok().flatten().unwrap_or_default();
        let format = format.trim_start_matches("https://").trim_start_matches("http://");
        if !format.starts_with(FORMAT) {
            return Self::default();
        }
        let mut names = BTreeSet::new();
        for paragraph in paragraphs {
            let field = |name| control::field(paragraph, name).ok().flatten();
            // Paragraphs without are the texts of licences that others name.
            if field("Files").is_none() {
                continue;
            }
            let Some(licence) = field("License") else { return Self::default() };
            let synopsis = licence.lines().next().unwrap_or_default();
            names.insert(synopsis.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        let expressions: Option<BTreeSet<String>> =
            names.iter().map(|name| expression(name)).collect();
        let expression = expressions.filter(|all| !all.is_empty()).map(|all| joined(&all));
        Self { expression, names: names.into_iter().collect() }
    }
}

/// Expressions that all hold, as one.
fn joined(all: &BTreeSet<String>) -> String {
    let bracketed = all.iter().map(|one| match one.contains(" OR ") && all.len() > 1 {
        true => format!("({one})"),
        false => one.clone(),
    });
    bracketed.collect::<Vec<_>>().join(" AND ")
}

/// What `text` says, the synopsis of a `License` field, if SPDX has a name for all of it.
///
/// `and` binds tighter than `or`, and less tight than anything after a comma (section 7.2).
fn expression(text: &str) -> Option<String> {
    // Of several commas the standard does not say how they nest.
    match text.split_once(", ") {
        Some((left, right)) => {
            let (word, right) = right.split_once(' ')?;
            let operator = operator(word).filter(|_| !right.contains(','))?;
            let side = |text| {
                let side = alternatives(text)?;
                let bracket = operator == "AND" && side.contains(" OR ");
                Some(if bracket { format!("({side})") } else { side })
            };
            Some(format!("{} {operator} {}", side(left)?, side(right)?))
        }
        None => alternatives(text),
    }
}

fn operator(word: &str) -> Option<&'static str> {
    match word {
        "and" => Some("AND"),
        "or" => Some("OR"),
        _ => None,
    }
}

/// Names with `and` and `or` between them. SPDX has the same precedence (Annex D.4.5).
fn alternatives(text: &str) -> Option<String> {
    let mut words = text.split(' ');
    let mut whole = identifier(words.next()?)?;
    while let Some(word) = words.next() {
        // Also where exceptions end it: `with` what is said in words that are not SPDX's.
        let operator = operator(word)?;
        whole = format!("{whole} {operator} {}", identifier(words.next()?)?);
    }
    Some(whole)
}

/// Families with numbered versions: the name in copyright files, in SPDX, and whether `-only` and `-or-later`
/// belong to it there.
const FAMILIES: &[(&str, &[&str], bool)] = &[
    ("GPL", &["1.0", "2.0", "3.0"], true),
    ("LGPL", &["2.0", "2.1", "3.0"], true),
    ("AGPL", &["3.0"], true),
    ("GFDL-NIV", &["1.1", "1.2", "1.3"], true),
    ("Apache", &["1.0", "1.1", "2.0"], false),
    ("MPL", &["1.0", "1.1", "2.0"], false),
    ("CC-BY", &["1.0", "2.0", "2.5", "3.0", "4.0"], false),
    ("CC-BY-SA", &["1.0", "2.0", "2.5", "3.0", "4.0"], false),
    ("CC0", &["1.0"], false),
    ("CDDL", &["1.0", "1.1"], false),
    ("CPL", &["1.0"], false),
    ("EFL", &["1.0", "2.0"], false),
    ("EPL", &["1.0", "2.0"], false),
    ("LPPL", &["1.0", "1.1", "1.2", "1.3c"], false),
    ("QPL", &["1.0"], false),
    ("Artistic", &["2.0"], false),
    ("BSL", &["1.0"], false),
    ("OFL", &["1.0", "1.1"], false),
    ("bzip2", &["1.0.6"], false),
];

/// Names without a version, and SPDX's name for the same licence: those of the standard, and those of SPDX that
/// nobody uses for anything else.
const NAMES: &[(&str, &str)] = &[
    ("Expat", "MIT"),
    ("BSD-2-clause", "BSD-2-Clause"),
    ("BSD-3-clause", "BSD-3-Clause"),
    ("BSD-4-clause", "BSD-4-Clause"),
    ("BSD-4-clause-UC", "BSD-4-Clause-UC"),
    ("0BSD", "0BSD"),
    ("ISC", "ISC"),
    ("Zlib", "Zlib"),
    ("FSFAP", "FSFAP"),
    ("FSFUL", "FSFUL"),
    ("FSFULLR", "FSFULLR"),
    ("PostgreSQL", "PostgreSQL"),
    ("curl", "curl"),
    ("Unlicense", "Unlicense"),
    ("Unicode-DFS-2015", "Unicode-DFS-2015"),
    ("Unicode-DFS-2016", "Unicode-DFS-2016"),
    ("Linux-man-pages-copyleft", "Linux-man-pages-copyleft"),
];

/// SPDX's identifier for what a copyright file calls `name`, in whatever case (section 7.2), if there is one.
fn identifier(name: &str) -> Option<String> {
    if let Some((_, identifier)) = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
    {
        return Some((*identifier).to_owned());
    }
    let lower = name.to_ascii_lowercase();
    // In words of SPDX: `GPL-2.0-or-later`.
    let (rest, later) = match (lower.strip_suffix("-or-later"), lower.strip_suffix('+')) {
        (Some(rest), _) | (None, Some(rest)) => (rest, true),
        _ => (lower.strip_suffix("-only").unwrap_or(&lower), false),
    };
    let has_suffix = rest.len() != lower.len();
    FAMILIES.iter().find_map(|(family, versions, is_gnu)| {
        let number = rest.strip_prefix(&family.to_ascii_lowercase())?.strip_prefix('-')?;
        // `2`, `2.0` and `2.0.0` are the same (section 7.1).
        let equal = |version: &&&str| trimmed(version) == trimmed(number);
        let version = versions.iter().find(equal)?;
        let suffix = if later { "or-later" } else { "only" };
        Some(match (*family, is_gnu) {
            ("GFDL-NIV", _) => format!("GFDL-{version}-no-invariants-{suffix}"),
            (_, true) => format!("{family}-{version}-{suffix}"),
            // SPDX's own lists give later versions of others no name: `+` is an operator there.
            (_, false) if has_suffix => return None,
            (_, false) => format!("{family}-{version}"),
        })
    })
}

fn trimmed(version: &str) -> &str {
    let mut version = version;
    while let Some(shorter) = version.strip_suffix(".0") {
        version = shorter;
    }
    version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_conjunctions() {
        for (text, expected) in [
            ("GPL-2+", Some("GPL-2.0-or-later")),
            ("gpl-2.0", Some("GPL-2.0-only")),
            ("GPL-2.0-only", Some("GPL-2.0-only")),
            ("LGPL-2.1+", Some("LGPL-2.1-or-later")),
            ("GFDL-NIV-1.3+", Some("GFDL-1.3-no-invariants-or-later")),
            ("Expat", Some("MIT")),
            ("ZLIB", Some("Zlib")),
            ("Apache-2", Some("Apache-2.0")),
            ("CC0-1.0", Some("CC0-1.0")),
            ("bzip2-1.0.6", Some("bzip2-1.0.6")),
            ("GPL-2+ or BSD-3-clause", Some("GPL-2.0-or-later OR BSD-3-Clause")),
            ("ISC or Expat and Zlib", Some("ISC OR MIT AND Zlib")),
            ("ISC or Expat, and Zlib", Some("(ISC OR MIT) AND Zlib")),
            ("ISC and Expat, or Zlib", Some("ISC AND MIT OR Zlib")),
            // Several texts have these names, or none.
            ("MIT", None),
            ("BSD", None),
            ("Artistic", None),
            ("GPL-1+ or Artistic", None),
            ("public-domain", None),
            ("GPL", None),
            ("GPL-9", None),
            ("Apache-2.0+", None),
            ("GPL-2+ with OpenSSL exception", None),
            ("GPL-2 or", None),
            ("GPL-2 GPL-3", None),
            ("A, B, and C", None),
            ("", None),
        ] {
            assert_eq!(expression(text).as_deref(), expected, "{text}");
        }
    }

    const FORMAT: &str = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/";

    #[test]
    fn all_that_files_are_under() {
        let text = format!(
            "Format: {FORMAT}\nLicense: ignored\n\nFiles: *\nCopyright: a\nLicense: GPL-2+ or Expat\n text\n\n\
             Files: debian/*\nCopyright: b\nLicense:\n ISC\n\nFiles: c\nLicense: ISC\n\n\
             License: Other\n its text\n"
        );
        let licence = Licence::read(&text);
        assert_eq!(licence.expression.as_deref(), Some("(GPL-2.0-or-later OR MIT) AND ISC"));
        assert_eq!(licence.names, ["GPL-2+ or Expat", "ISC"]);
        let one_more = format!("{text}\nFiles: d\nLicense: MIT\n");
        let licence = Licence::read(&one_more);
        assert_eq!((licence.expression, licence.names.len()), (None, 3));
    }

    #[test]
    fn texts_for_people_say_nothing() {
        for text in [
            "",
            "This is free software.\n\nGPL\n",
            "Format: https://example.org/\n\nFiles: *\nLicense: ISC\n",
            &format!("Format: {FORMAT}\n\nFiles: *\nCopyright: a\n"),
        ] {
            assert_eq!(Licence::read(text), Licence::default(), "{text:?}");
        }
    }
}
