//! Names of roles.

use super::{Error, foundation};
use crate::definition::ImageName;

/// Words that mean something else where names of images stand.
const RESERVED: [(&str, &str); 2] = [
    (
        "operators",
        "among the clients of an endpoint the word stands for those who look after the site",
    ),
    ("any", "as the clients of an endpoint the word stands for everybody"),
];

/// What letters with marks, and others that are common where Latin script is written, are without them.
const PLAIN: [(&str, &str); 16] = [
    ("áàâäãå", "a"),
    ("ç", "c"),
    ("éèêë", "e"),
    ("íìîï", "i"),
    ("ñ", "n"),
    ("ŋ", "ng"),
    ("óòôöõø", "o"),
    ("úùûü", "u"),
    ("ýÿ", "y"),
    ("æ", "ae"),
    ("œ", "oe"),
    ("ß", "ss"),
    ("ɓ", "b"),
    ("ɗ", "d"),
    ("ƴ", "y"),
    ("š", "s"),
];

/// `text` as the name of a new role.
///
/// # Errors
/// It breaks the rule for names, or means something else.
pub fn role_name(text: &str) -> Result<ImageName, Error> {
    let name: ImageName = text.parse().map_err(|rule| {
        let better = plain(text);
        let help = match better.parse::<ImageName>() {
            Ok(better) => format!("expected {rule}: `{better}`, for example"),
            Err(_) => format!("expected {rule}"),
        };
        Error::Name { name: text.to_owned(), help }
    })?;
    let is_foundation = foundation::NAMES.contains(&text);
    let meaning = RESERVED.iter().find(|(word, _)| *word == text).map(|(_, what)| *what);
    let foundation =
        is_foundation.then_some("images of this name are what roles stand on or disks boot with");
    match meaning.or(foundation) {
        Some(what) => {
            let help = format!("choose another name: `my-{text}`, for example");
            Err(Error::Reserved { name: text.to_owned(), what, help })
        }
        None => Ok(name),
    }
}

/// What a name would be that obeys the rule.
fn plain(text: &str) -> String {
    let mut name = String::new();
    for letter in text.to_lowercase().chars() {
        let simple = PLAIN.iter().find(|(letters, _)| letters.contains(letter));
        match simple {
            Some((_, simple)) => name.push_str(simple),
            None if letter.is_ascii_alphanumeric() => name.push(letter),
            None if !name.ends_with('-') => name.push('-'),
            None => {}
        }
    }
    let name = name.trim_start_matches(|first: char| !first.is_ascii_lowercase());
    let end = name.len().min(63);
    name[..end].trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_obey_the_rule_are_suggested() {
        for (text, name) in [
            ("Web Server", "web-server"),
            ("web_server", "web-server"),
            ("Bibliothèque", "bibliotheque"),
            ("jàngukaay bu mag", "jangukaay-bu-mag"),
            ("ŋaay", "ngaay"),
            ("2nd", "nd"),
            ("../etc", "etc"),
            ("web-", "web"),
            ("日本", ""),
        ] {
            assert_eq!(plain(text), name, "{text}");
            assert!(role_name(text).is_err(), "{text}");
        }
        assert!(plain(&"a".repeat(70)).parse::<ImageName>().is_ok());
        assert!(role_name("web").is_ok());
        for reserved in ["operators", "any", "node", "boot"] {
            assert!(matches!(role_name(reserved), Err(Error::Reserved { .. })), "{reserved}");
        }
    }
}
