//! Relations between packages, the values of `Depends`, `Conflicts`, `Provides` and their like:
//! `a, b (>= 1.2) | c:any` (Debian policy, chapter 7; deb-control(5)).

use std::cmp::Ordering;
use std::fmt;

use super::version;

#[cfg(test)]
mod tests;

/// Alternatives, any one of which satisfies the relation: `a (>= 1) | b`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The alternatives in order of preference.
    pub alternatives: Vec<Alternative<'a>>,
}

/// One alternative of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative<'a> {
    /// The name of a package, real or virtual.
    pub name: &'a str,
    /// `any`, `native` or an architecture: what follows the `:` in `python3:any`.
    pub qualifier: Option<&'a str>,
    /// Which versions satisfy it. `None`: all.
    pub constraint: Option<Constraint<'a>>,
    /// The words of `[amd64 !i386]`. Empty: all architectures.
    pub architectures: Vec<&'a str>,
}

/// `>= 1.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constraint<'a> {
    /// How a version has to compare with `version`.
    pub operator: Operator,
    /// A valid version, as written.
    pub version: &'a str,
}

/// How versions have to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// A text that is not a relation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at column {}", column + 1)]
pub struct ParseRelationError {
    /// Where in the text, in bytes from 0.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// How strict to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// Control files of packages, which are as they are: `<` and `>` mean `<=` and `>=`, as dpkg
    /// takes them.
    Archive,
    /// What people write in a definition today: `<` and `>` are refused, because nobody would
    /// guess their meaning.
    Definition,
}

impl Operator {
    /// Whether a version whose order relative to the constraint is `order` satisfies it.
    fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::EarlierOrEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::LaterOrEqual => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }
}

impl Constraint<'_> {
    /// Whether `version` satisfies the constraint.
    pub fn accepts(&self, version: &str) -> bool {
        self.operator.accepts(version::compare(version, self.version))
    }
}

impl Alternative<'_> {
    /// Whether the alternative exists on `architecture`: whether `[amd64 !i386]` names it.
    pub fn applies_to(&self, architecture: &str) -> bool {
        let matches =
            |word: &&str| matches_architecture(word.trim_start_matches('!'), architecture);
        match self.architectures.first() {
            None => true,
            // The words are all negated or none is, so the first decides (deb-control(5)).
            Some(first) if first.starts_with('!') => !self.architectures.iter().any(matches),
            Some(_) => self.architectures.iter().any(matches),
        }
    }

    /// Whether `version` satisfies the alternative's constraint, if it has one.
    pub fn accepts(&self, version: &str) -> bool {
        self.constraint.is_none_or(|constraint| constraint.accepts(version))
    }
}

/// Whether `pattern`, an architecture or a wildcard such as `any`, `linux-any` or `any-amd64`,
/// covers `architecture` (dpkg-architecture(1)). A name without an operating system is Linux.
fn matches_architecture(pattern: &str, architecture: &str) -> bool {
    if pattern == "any" || pattern == architecture {
        return true;
    }
    let (system, processor) = architecture.split_once('-').unwrap_or(("linux", architecture));
    match pattern.split_once('-') {
        Some((wanted, "any")) => wanted == system,
        Some(("any", wanted)) => wanted == processor,
        Some((wanted_system, wanted)) => wanted_system == system && wanted == processor,
        None => false,
    }
}

/// Reads the value of a relation field of a control file: relations separated by commas. An
/// empty value is no relation at all.
pub fn parse_field(text: &str) -> Result<Vec<Relation<'_>>, ParseRelationError> {
    let mut parser = Parser { text, position: 0, dialect: Dialect::Archive };
    let mut relations = Vec::new();
    parser.skip_blanks();
    while !parser.at_end() {
        relations.push(parser.relation()?);
        if !parser.at_end() {
            parser.expect(b',')?;
            parser.skip_blanks();
        }
    }
    Ok(relations)
}

/// Reads a single relation as people write it in a definition: `a (>= 1) | b`.
pub fn parse_wanted(text: &str) -> Result<Relation<'_>, ParseRelationError> {
    let mut parser = Parser { text, position: 0, dialect: Dialect::Definition };
    parser.skip_blanks();
    let relation = parser.relation()?;
    if parser.peek() == Some(b',') {
        return Err(parser.error("a second relation: write one per entry of the list"));
    }
    if !parser.at_end() {
        return Err(parser.unexpected("`(`, `|` or the end"));
    }
    Ok(relation)
}

/// Whether `name` can be the name of a package: letters, digits and `-+._`, the first of them a
/// letter or digit (`pkg_name_is_invalid` of dpkg).
pub fn is_package_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(is_name_byte)
}

fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'+' | b'.' | b'_')
}

struct Parser<'a> {
    text: &'a str,
    /// Always at the boundary of a character: only ASCII is ever skipped.
    position: usize,
    dialect: Dialect,
}

impl<'a> Parser<'a> {
    fn relation(&mut self) -> Result<Relation<'a>, ParseRelationError> {
        let mut alternatives = vec![self.alternative()?];
        while self.peek() == Some(b'|') {
            self.position += 1;
            self.skip_blanks();
            alternatives.push(self.alternative()?);
        }
        Ok(Relation { alternatives })
    }

    /// One alternative and the blanks behind it.
    fn alternative(&mut self) -> Result<Alternative<'a>, ParseRelationError> {
        let start = self.position;
        let name = self.take_while(is_name_byte);
        if name.is_empty() {
            return Err(self.unexpected("the name of a package"));
        }
        if !is_package_name(name) {
            self.position = start;
            return Err(self.error("the name of a package starts with a letter or digit"));
        }
        let mut alternative =
            Alternative { name, qualifier: None, constraint: None, architectures: Vec::new() };
        if self.peek() == Some(b':') {
            self.position += 1;
            let qualifier = self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if qualifier.is_empty() {
                return Err(self.unexpected("`any`, `native` or an architecture"));
            }
            alternative.qualifier = Some(qualifier);
        }
        self.skip_blanks();
        if self.peek() == Some(b'(') {
            alternative.constraint = Some(self.constraint()?);
            self.skip_blanks();
        }
        if self.peek() == Some(b'[') {
            alternative.architectures = self.architectures()?;
            self.skip_blanks();
        }
        if self.peek() == Some(b'<') {
            return Err(self.error("build profiles have no meaning for installed packages"));
        }
        Ok(alternative)
    }

    /// `(>= 1.2)`
    fn constraint(&mut self) -> Result<Constraint<'a>, ParseRelationError> {
        self.expect(b'(')?;
        self.skip_blanks();
        let operator = self.operator()?;
        self.skip_blanks();
        let start = self.position;
        let version = self.take_while(|byte| !byte.is_ascii_whitespace() && !b"()".contains(&byte));
        if let Err(reason) = version::validate(version) {
            self.position = start;
            return Err(self.error(format!("`{version}` is not a version: {reason}")));
        }
        self.skip_blanks();
        self.expect(b')')?;
        Ok(Constraint { operator, version })
    }

    fn operator(&mut self) -> Result<Operator, ParseRelationError> {
        let start = self.position;
        let operator = match self.take_while(|byte| b"<=>".contains(&byte)) {
            "<<" => Operator::Earlier,
            "<=" => Operator::EarlierOrEqual,
            "=" => Operator::Equal,
            ">=" => Operator::LaterOrEqual,
            ">>" => Operator::Later,
            "<" if self.dialect == Dialect::Archive => Operator::EarlierOrEqual,
            ">" if self.dialect == Dialect::Archive => Operator::LaterOrEqual,
            obsolete @ ("<" | ">") => {
                self.position = start;
                return Err(self.error(format!(
                    "`{obsolete}` alone is ambiguous: write `{obsolete}=` or `{obsolete}{obsolete}`"
                )));
            }
            _ => {
                self.position = start;
                return Err(self.unexpected("`<<`, `<=`, `=`, `>=` or `>>`"));
            }
        };
        Ok(operator)
    }

    /// `[amd64 !i386]`
    fn architectures(&mut self) -> Result<Vec<&'a str>, ParseRelationError> {
        self.expect(b'[')?;
        let mut architectures: Vec<&str> = Vec::new();
        loop {
            self.skip_blanks();
            if self.peek() == Some(b']') && !architectures.is_empty() {
                self.position += 1;
                return Ok(architectures);
            }
            let start = self.position;
            let word =
                self.take_while(|byte| byte.is_ascii_alphanumeric() || b"!-".contains(&byte));
            if word.trim_start_matches('!').is_empty() {
                return Err(self.unexpected("an architecture"));
            }
            if architectures
                .first()
                .is_some_and(|first| first.starts_with('!') != word.starts_with('!'))
            {
                self.position = start;
                return Err(self.error("either all architectures are negated or none is"));
            }
            architectures.push(word);
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn at_end(&self) -> bool {
        self.position == self.text.len()
    }

    fn skip_blanks(&mut self) {
        self.take_while(|byte| byte.is_ascii_whitespace());
    }

    /// Takes ASCII bytes that satisfy `belongs`.
    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a str {
        let rest = &self.text[self.position..];
        let length =
            rest.bytes().position(|byte| !byte.is_ascii() || !belongs(byte)).unwrap_or(rest.len());
        self.position += length;
        &rest[..length]
    }

    fn expect(&mut self, byte: u8) -> Result<(), ParseRelationError> {
        if self.peek() != Some(byte) {
            return Err(self.unexpected(&format!("`{}`", char::from(byte))));
        }
        self.position += 1;
        Ok(())
    }

    fn unexpected(&self, expected: &str) -> ParseRelationError {
        match self.text[self.position..].chars().next() {
            Some(found) => self.error(format!("expected {expected}, found `{found}`")),
            None => self.error(format!("expected {expected}, found the end")),
        }
    }

    fn error(&self, message: impl Into<String>) -> ParseRelationError {
        ParseRelationError { column: self.position, message: message.into() }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        })
    }
}

impl fmt::Display for Alternative<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(formatter, ":{qualifier}")?;
        }
        if let Some(Constraint { operator, version }) = self.constraint {
            write!(formatter, " ({operator} {version})")?;
        }
        if !self.architectures.is_empty() {
            write!(formatter, " [{}]", self.architectures.join(" "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, alternative) in self.alternatives.iter().enumerate() {
            if index > 0 {
                formatter.write_str(" | ")?;
            }
            write!(formatter, "{alternative}")?;
        }
        Ok(())
    }
}
