//! A strict reader of the part of libconfig's grammar that ProxySQL's configuration needs
//! (<https://hyperrealm.github.io/libconfig/libconfig_manual.html#Configuration-File-Grammar>).

use std::collections::BTreeMap;

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `{ name = value … }`. No name is there twice.
    Group(BTreeMap<String, Setting>),
    /// `( value, … )`
    List(Vec<Setting>),
    /// `"text"`
    Text(String),
    /// `12`
    Integer(i64),
    /// `true`
    Boolean(bool),
}

impl Setting {
    /// The settings of a group.
    pub fn group(&self) -> &BTreeMap<String, Setting> {
        let Self::Group(group) = self else { panic!("{self:?} is no group") };
        group
    }

    /// The elements of a list.
    pub fn list(&self) -> &[Setting] {
        let Self::List(list) = self else { panic!("{self:?} is no list") };
        list
    }

    /// The text of a string.
    pub fn text(&self) -> &str {
        let Self::Text(text) = self else { panic!("{self:?} is no string") };
        text
    }
}

/// Reads a file as a group; an error says in which line it is.
pub fn parse(text: &str) -> Result<Setting, String> {
    let mut reader = Reader { text, position: 0 };
    let group = reader.settings(None)?;
    match reader.position == text.len() {
        true => Ok(group),
        false => Err(reader.error("the end of the file")),
    }
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, expected: &str) -> String {
        let line = self.text[..self.position].lines().count().max(1);
        let found: String = self.rest().chars().take(20).collect();
        format!("line {line}: expected {expected}, found {found:?}")
    }

    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    /// Passes over blanks and comments, then returns what comes.
    fn peek(&mut self) -> Option<char> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.position += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') && !trimmed.starts_with("//") {
                return trimmed.chars().next();
            }
            self.position += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn take(&mut self, sign: char) -> bool {
        let there = self.peek() == Some(sign);
        self.position += if there { sign.len_utf8() } else { 0 };
        there
    }

    fn word(&mut self, allowed: impl Fn(char) -> bool, expected: &str) -> Result<&'a str, String> {
        self.peek();
        let rest = self.rest();
        let end = rest.find(|sign| !allowed(sign)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.error(expected));
        }
        self.position += end;
        Ok(&rest[..end])
    }

    /// Settings up to `end`, or the end of the file. A setting may end in `;` or `,`.
    fn settings(&mut self, end: Option<char>) -> Result<Setting, String> {
        let mut group = BTreeMap::new();
        while self.peek() != end {
            let name_sign = |sign: char| sign.is_ascii_alphanumeric() || "-_*".contains(sign);
            let name = self.word(name_sign, "a name")?;
            if !name.starts_with(|sign: char| sign.is_ascii_alphabetic() || sign == '*') {
                return Err(format!("{name:?} cannot be a name; {}", self.error("another")));
            }
            if !self.take('=') && !self.take(':') {
                return Err(self.error("`=`"));
            }
            let value = self.value()?;
            if group.insert(name.to_owned(), value).is_some() {
                return Err(format!("`{name}` is there twice; {}", self.error("another")));
            }
            let _ = self.take(';') || self.take(',');
        }
        self.position += end.map_or(0, char::len_utf8);
        Ok(Setting::Group(group))
    }

    fn value(&mut self) -> Result<Setting, String> {
        if self.take('{') {
            return self.settings(Some('}'));
        }
        if self.take('(') {
            return self.list();
        }
        if self.take('"') {
            return self.string();
        }
        let sign = |sign: char| sign.is_ascii_alphanumeric() || "+-.".contains(sign);
        let word = self.word(sign, "a value")?;
        match word.to_ascii_lowercase().as_str() {
            "true" => Ok(Setting::Boolean(true)),
            "false" => Ok(Setting::Boolean(false)),
            // Larger ones need a suffix, and ProxySQL reads none of those.
            number => number
                .parse::<i32>()
                .map(|number| Setting::Integer(number.into()))
                .map_err(|_| format!("{word:?} is no value; {}", self.error("another"))),
        }
    }

    /// Values up to `)`, with a comma between each two and none behind the last.
    fn list(&mut self) -> Result<Setting, String> {
        let mut values = Vec::new();
        if self.take(')') {
            return Ok(Setting::List(values));
        }
        loop {
            values.push(self.value()?);
            if self.take(')') {
                return Ok(Setting::List(values));
            }
            if !self.take(',') {
                return Err(self.error("`,` or `)`"));
            }
        }
    }

    /// Text up to `"`. Escapes are not needed, and ProxySQL would put them into SQL.
    fn string(&mut self) -> Result<Setting, String> {
        let rest = self.rest();
        let end = rest.find(['"', '\\', '\n']).unwrap_or(rest.len());
        let text = rest[..end].to_owned();
        self.position += end;
        match self.rest().strip_prefix('"') {
            Some(_) => {
                self.position += 1;
                Ok(Setting::Text(text))
            }
            None => Err(self.error("`\"`")),
        }
    }
}
