//! The token that a client shows to Proxmox, which nothing here ever prints.

use std::fmt;
use std::str::FromStr;

/// An API token, `user@realm!name=secret`.
///
/// It has no way to be printed: `Debug` and `Display` show its name only. The secret leaves it in the
/// `Authorization` header of requests and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    name: String,
    secret: String,
}

/// Text that is no token. It does not repeat the text, which may be most of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("this is no API token of Proxmox: {0}")]
#[diagnostic(help(
    "a token is `user@realm!name=secret`: `pveum user token add imgbuild@pve ci --privsep 1` shows the \
     secret once, when the token is made"
))]
pub struct ParseTokenError(&'static str);

impl Token {
    /// The part that is no secret: `user@realm!name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of the header `Authorization` (`PVE/APIServer/Formatter.pm` of pve-http-server).
    pub(super) fn authorization(&self) -> String {
        format!("PVEAPIToken={}={}", self.name, self.secret)
    }
}

impl FromStr for Token {
    type Err = ParseTokenError;

    /// Reads `user@realm!name=secret`, as a file or a variable has it: white space around it does not
    /// count. The secret of a token is a UUID (`PVE/API2/User.pm` of pve-access-control).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, secret) = text.trim().split_once('=').ok_or(ParseTokenError("it has no `=`"))?;
        let (user, token) = name.split_once('!').ok_or(ParseTokenError("it has no `!`"))?;
        let (user, realm) = user.rsplit_once('@').ok_or(ParseTokenError("it has no `@`"))?;
        let word = |text: &str, also: &[u8]| {
            text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
                && text.len() > 1
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
        };
        let graphic = |byte: u8| byte.is_ascii_graphic() && !b":/%=".contains(&byte);
        if user.is_empty() || !user.bytes().all(graphic) {
            return Err(ParseTokenError("its user has characters that no user has"));
        }
        if !word(realm, b".-_") {
            return Err(ParseTokenError("what follows `@` is no realm, such as `pve` or `pam`"));
        }
        if !word(token, b".-_") {
            return Err(ParseTokenError("what follows `!` is no name of a token"));
        }
        if !is_uuid(secret) {
            return Err(ParseTokenError("what follows `=` is no UUID"));
        }
        Ok(Self { name: name.to_owned(), secret: secret.to_owned() })
    }
}

/// Whether `text` is 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Token({}=…)", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "12345678-90ab-cdef-1234-567890abcdef";

    #[test]
    fn a_token_shows_its_name_and_never_its_secret() {
        let token: Token = format!("imgbuild@pve!ci={SECRET}\n").parse().unwrap();
        assert_eq!(token.name(), "imgbuild@pve!ci");
        assert_eq!(token.to_string(), "imgbuild@pve!ci");
        assert_eq!(format!("{token:?}"), "Token(imgbuild@pve!ci=…)");
        assert_eq!(token.authorization(), format!("PVEAPIToken=imgbuild@pve!ci={SECRET}"));
    }

    #[test]
    fn other_text_is_refused_without_repeating_it() {
        for text in [
            "",
            SECRET,
            &format!("imgbuild={SECRET}"),
            &format!("imgbuild!ci={SECRET}"),
            &format!("@pve!ci={SECRET}"),
            &format!("imgbuild@!ci={SECRET}"),
            &format!("imgbuild@pve!={SECRET}"),
            &format!("img\r\nbuild@pve!ci={SECRET}"),
            &format!("imgbuild@pve!ci={SECRET}0"),
            &format!("imgbuild@pve!ci={SECRET}\r\nX: y"),
            &format!("imgbuild@pve!ci {SECRET}"),
        ] {
            let error = text.parse::<Token>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("567890ab"), "{text}");
        }
    }
}
