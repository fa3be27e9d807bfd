//! What imgbuild says of its own use.

use std::collections::BTreeSet;

use crate::stdout;

/// What `--help` of a verb, or of imgbuild itself without one, says.
pub struct Help {
    pub verbs: BTreeSet<String>,
    pub arguments: BTreeSet<String>,
    pub options: BTreeSet<String>,
}

impl Help {
    /// That of a verb with verbs of its own has what any of those has.
    pub fn of(verb: Option<&str>) -> Self {
        let Some(verb) = verb else { return Self::said(&["--help"]) };
        let mut help = Self::said(&[verb, "--help"]);
        for below in help.verbs.clone().iter().filter(|below| *below != "help") {
            let below = Self::said(&[verb, below, "--help"]);
            help.arguments.extend(below.arguments);
            help.options.extend(below.options);
        }
        help
    }

    fn said(arguments: &[&str]) -> Self {
        let text = stdout(arguments);
        let mut help =
            Self { verbs: BTreeSet::new(), arguments: BTreeSet::new(), options: BTreeSet::new() };
        let mut part = "";
        for line in text.lines() {
            if let Some(title) = line.strip_suffix(':').filter(|title| !title.starts_with(' ')) {
                part = title;
            }
            // Entries are indented by two to six blanks; their explanation, when it is wrapped, by more.
            let entry = line.trim_start();
            if !(2..=6).contains(&(line.len() - entry.len())) {
                continue;
            }
            let entry = entry.split("  ").next().unwrap_or_default();
            match part {
                "Commands" => drop(help.verbs.insert(entry.to_owned())),
                "Arguments" => {
                    let name = entry.trim_matches(|sign: char| !sign.is_alphanumeric());
                    help.arguments.insert(name.to_owned());
                }
                _ => help.options.extend(option_names(entry)),
            }
        }
        help
    }
}

/// The options that `text` names: `-C`, `--project`.
pub fn option_names(text: &str) -> impl Iterator<Item = String> {
    let words = text.split([' ', ',', '`', '=']);
    // `--` alone ends the options.
    words.filter(|word| word.len() > 1 && word.starts_with('-') && *word != "--").map(str::to_owned)
}
