//! Reading a line of the file.

use super::Line;
use crate::debian::date::Moment;
use crate::definition::{self, Place, Problem, did_you_mean};
use crate::signature::identity::Identity;

const OPTIONS: [&str; 4] = ["cert-authority", "namespaces", "valid-after", "valid-before"];

/// The kinds of keys that may stand here.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];

const FORM: &str = "a line is `NAME[,NAME…] [OPTIONS] KIND KEY`, for example \
                    `ci@campus.example namespaces=\"imgbuild\" ssh-ed25519 AAAAC3Nz…`";

/// Reads `text`, which stands at `place`.
pub(super) fn parse(place: &Place, text: &str) -> definition::Result<Line> {
    let wrong = |text: String, help: &str| {
        place.error_with_help(Problem::Syntax(text), Some(help.to_owned()))
    };
    let text = text.trim_start();
    let (principals, rest) = word(text);
    if principals.contains('"') {
        return Err(wrong("names of signers stand in quotes".to_owned(), "write them without"));
    }
    let mut line = Line {
        place: place.clone(),
        principals: principals.to_owned(),
        is_authority: false,
        namespaces: None,
        valid_after: None,
        valid_before: None,
        // Replaced below.
        key: ssh_key::public::Ed25519PublicKey([0; 32]).into(),
    };
    let (first, mut key) = word(rest);
    // No option begins like the name of a kind of keys, of one that is refused neither.
    let is_kind = ["ssh-", "ecdsa-", "sk-"].iter().any(|start| first.starts_with(start));
    if first.is_empty() || is_kind {
        key = rest;
    } else {
        let within = |part: &str| place.find_within(part).unwrap_or_else(|| place.clone());
        options(&within(first), first, &mut line)?;
    }
    let (kind, _) = word(key);
    if !KINDS.contains(&kind) {
        let problem = match kind {
            "" => "there is no key in the line".to_owned(),
            kind => format!("`{kind}` is no kind of key that may sign"),
        };
        let help = match kind {
            "ssh-dss" => "such keys are weak; make another: `ssh-keygen -t ed25519`",
            kind if kind.contains("-cert-") => {
                "give the key of the authority, with `cert-authority`"
            }
            _ => FORM,
        };
        return Err(wrong(problem, help));
    }
    let identity = Identity::from_line(key)
        .map_err(|problem| wrong(format!("the key cannot be read: {problem}"), FORM))?;
    line.key = identity.key().clone();
    Ok(line)
}

/// The first word of `text`, whose blanks in quotes do not count, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let (mut quoted, mut escaped) = (false, false);
    let end = text.char_indices().find(|(_, character)| {
        let is_end = !quoted && matches!(character, ' ' | '\t');
        quoted ^= *character == '"' && !escaped;
        escaped = *character == '\\' && !escaped;
        is_end
    });
    let (word, rest) = text.split_at(end.map_or(text.len(), |(end, _)| end));
    (word, rest.trim_start())
}

/// Reads the options `text` at `place` into `line`.
fn options(place: &Place, text: &str, line: &mut Line) -> definition::Result<()> {
    for option in split(text) {
        let at = Some(option).filter(|option| !option.is_empty());
        let at = at.and_then(|option| place.find_within(option)).unwrap_or_else(|| place.clone());
        let wrong =
            |text: String, help: String| Err(at.error_with_help(Problem::Syntax(text), Some(help)));
        let (name, value) = option.split_once('=').map_or((option, None), |(a, b)| (a, Some(b)));
        let name = name.to_ascii_lowercase();
        if !OPTIONS.contains(&name.as_str()) {
            let help = did_you_mean(&name, OPTIONS);
            let help = help.unwrap_or_else(|| format!("options: {}; {FORM}", OPTIONS.join(", ")));
            return wrong(format!("unknown option `{name}`"), help);
        }
        if name == "cert-authority" {
            if value.is_some() {
                return wrong("`cert-authority` has no value".to_owned(), FORM.to_owned());
            }
            line.is_authority = true;
            continue;
        }
        let value = value.and_then(|value| value.strip_prefix('"')?.strip_suffix('"'));
        let Some(value) = value.filter(|value| !value.is_empty() && !value.contains(['"', '\\']))
        else {
            return wrong(
                format!("`{name}` needs a value in quotes"),
                format!("write `{name}=\"…\"`"),
            );
        };
        let is_new = match name.as_str() {
            "namespaces" => line.namespaces.replace(value.to_owned()).is_none(),
            _ => {
                let Some(moment) = moment(value) else {
                    return wrong(
                        format!("`{value}` is no time in UTC"),
                        "write YYYYMMDDZ, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ; without Z it would be another moment on \
                         machines of other zones"
                            .to_owned(),
                    );
                };
                let slot = if name == "valid-after" {
                    &mut line.valid_after
                } else {
                    &mut line.valid_before
                };
                slot.replace(moment).is_none()
            }
        };
        if !is_new {
            return wrong(format!("`{name}` stands there twice"), "remove one".to_owned());
        }
    }
    if let (Some(after), Some(before)) = (line.valid_after, line.valid_before)
        && before <= after
    {
        let problem = Problem::Contradiction("the key is valid at no time".to_owned());
        let help = "`valid-before` has to be later than `valid-after`".to_owned();
        return Err(place.error_with_help(problem, Some(help)));
    }
    Ok(())
}

/// The options of `text`: what is between commas that are not in quotes.
fn split(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(|character| {
        quoted ^= character == '"';
        character == ',' && !quoted
    })
    .collect()
}

/// `20261126Z`, `202611261305Z`, `20261126130528Z` (`parse_absolute_time` of OpenSSH's `misc.c`).
fn moment(text: &str) -> Option<Moment> {
    let digits = text.strip_suffix(['Z', 'z'])?;
    if !digits.is_ascii() || ![8, 12, 14].contains(&digits.len()) {
        return None;
    }
    let (date, clock) = digits.split_at(8);
    Moment::parse_snapshot(&format!("{date}T{clock:0<6}Z"))
}
