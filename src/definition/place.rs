//! Places in the files of a project, for messages that show the line.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use miette::{NamedSource, SourceSpan};

use super::error::{Error, Located, Problem, Result};

/// The text of one file under its path relative to the project. Cheap to clone.
pub type Source = Arc<NamedSource<Arc<String>>>;

/// The largest definition, overlay or template that is read, in bytes. Far more than anyone
/// writes by hand; it keeps a stray disk image from being read into memory.
pub(crate) const TEXT_LIMIT: u64 = 1 << 20;

/// A stretch of text in one file.
#[derive(Clone)]
pub struct Place {
    source: Source,
    span: Range<usize>,
}

impl Place {
    /// The bytes `span` of `source`.
    pub fn new(source: Source, span: Range<usize>) -> Self {
        Self { source, span }
    }

    /// The file.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The bytes of the file that are meant.
    pub fn span(&self) -> SourceSpan {
        self.span.clone().into()
    }

    /// The path of the file, relative to the project.
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// The number of the line the place begins at, from 1.
    pub fn line(&self) -> usize {
        let text = self.source.inner().as_bytes();
        let before = &text[..self.span.start.min(text.len())];
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }

    /// `problem` at this place.
    pub(crate) fn error(&self, problem: Problem) -> Error {
        self.error_with_help(problem, None)
    }

    /// `problem` at this place, with the remedy.
    pub(crate) fn error_with_help(&self, problem: Problem, help: Option<String>) -> Error {
        Located::new(problem, self, help).into()
    }
}

impl Place {
    /// Where `text` stands in quotes in this place, or alone; this place as a whole if it does not,
    /// for example because it was written in another form.
    pub(crate) fn within(&self, text: &str) -> Self {
        let quoted = |text: &str| self.find_within(&format!("\"{text}\""));
        quoted(text).or_else(|| self.find_within(text)).unwrap_or_else(|| self.clone())
    }

    /// The first occurrence of `text` in this place.
    pub(crate) fn find_within(&self, text: &str) -> Option<Self> {
        let start = self.span.start + self.source.inner().get(self.span.clone())?.find(text)?;
        Some(Self::new(self.source.clone(), start..start + text.len()))
    }

    /// What follows this place on its last line.
    pub(crate) fn rest_of_line(&self) -> Option<Self> {
        let rest = self.source.inner().get(self.span.end..)?;
        let length = rest.find('\n').unwrap_or(rest.len());
        Some(Self::new(self.source.clone(), self.span.end..self.span.end + length))
    }
}

/// Places are the same if they are the same bytes of files of the same name.
impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.file() == other.file() && self.span == other.span
    }
}

impl Eq for Place {}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// `images/base/image.toml:12`
impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file(), self.line())
    }
}

/// Checks that no part of `relative` below `root` is a symbolic link, which could lead out of the
/// project. What does not exist is left to whoever opens it.
pub(crate) fn refuse_links(root: &Path, relative: &Path) -> Result<()> {
    let mut path = root.to_owned();
    for part in relative {
        path.push(part);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(Error::Link { path });
        }
    }
    Ok(())
}

/// Reads the regular file `root/relative`.
pub(crate) fn read_bytes(root: &Path, relative: &Path) -> Result<Vec<u8>> {
    let path = root.join(relative);
    refuse_links(root, relative)?;
    let failed = |cause| Error::Read { path: path.clone(), cause };
    if !fs::metadata(&path).map_err(failed)?.is_file() {
        return Err(Error::NotAFile { path });
    }
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(TEXT_LIMIT + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Err(Error::TooLarge { path, limit: TEXT_LIMIT });
    }
    Ok(bytes)
}

/// Reads the text file `root/relative`.
pub(crate) fn read_text(root: &Path, relative: &Path) -> Result<Source> {
    let text = String::from_utf8(read_bytes(root, relative)?)
        .map_err(|_| Error::NotText { path: root.join(relative) })?;
    let name = relative.to_string_lossy();
    let source = NamedSource::new(name, Arc::new(text));
    Ok(Arc::new(match relative.extension() {
        Some(extension) if extension == "toml" => source.with_language("TOML"),
        _ => source,
    }))
}
