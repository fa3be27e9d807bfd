//! Reading Debian binary packages (deb(5)): the control files into memory, the data archive as
//! a stream. Nothing is written anywhere, every size is bounded, and a package file that dpkg
//! would refuse is refused with the package file and the member named.

mod archive;
mod error;
mod member;
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), allow(dead_code, reason = "targets of a fuzzer need but a part"))]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

pub use error::Error;
pub use member::{Member, MemberKind, MemberPath};

use archive::Part;
use member::{Assembler, Links, Problem, Refusal};

use crate::compression::Bounded;

/// Most bytes that a control archive may expand to. The largest of trixie, a kernel's, has
/// less than a tenth of it.
const CONTROL_LIMIT: u64 = 64 << 20;
/// Most bytes that a data archive may expand to. The largest of trixie has about 3 GiB.
const DATA_LIMIT: u64 = 32 << 30;
/// Longest name of a control file that dpkg accepts (its `MAXCONTROLFILENAME`).
const CONTROL_NAME_LIMIT: usize = 50;

/// A file of the control archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFile {
    /// Its name: `control`, `postinst`, `md5sums`, …
    pub name: String,
    /// Permission bits.
    pub mode: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// What it holds.
    pub content: Vec<u8>,
}

/// An opened package file with its control files.
#[derive(Debug)]
pub struct Deb {
    path: PathBuf,
    data: Part,
    control: Vec<ControlFile>,
}

impl Deb {
    /// Opens a package file and reads its control archive. The file is closed again: a set may
    /// have more packages than a process may have open files.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file =
            File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let (control, data) = archive::parts(path, &file)?;
        let mut deb = Self { path: path.to_owned(), data, control: Vec::new() };
        deb.control = deb.read_control(&control)?;
        Ok(deb)
    }

    /// Where the package file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The control files in the order of the archive; the names are distinct.
    pub fn control_files(&self) -> &[ControlFile] {
        &self.control
    }

    /// The content of the control file `name`.
    pub fn control_file(&self, name: &str) -> Option<&[u8]> {
        self.control.iter().find(|file| file.name == name).map(|file| file.content.as_slice())
    }

    /// Calls `visit` with every member of the data archive and its content (empty for anything
    /// but files), in order. Content that is not read is skipped. Returns when the archive,
    /// including its checksums, has been read to the end.
    pub fn visit_data<E: From<Error>>(
        &self,
        mut visit: impl FnMut(Member, &mut dyn Read) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut assembler = Assembler::default();
        let mut links = Links::default();
        let limit = self.data.bound(DATA_LIMIT);
        self.visit_records(&self.data, limit, |header, content| {
            let member = assembler.take(header, content);
            match member.and_then(|member| member.map(|member| links.admit(member)).transpose()) {
                Ok(Some(member)) => visit(member, content),
                Ok(None) => Ok(()),
                Err(problem) => Err(self.problem(&self.data, limit, problem).into()),
            }
        })
    }

    /// An error about reading the content that [`Deb::visit_data`] gives out.
    pub fn read_error(&self, source: io::Error) -> Error {
        self.problem(&self.data, self.data.bound(DATA_LIMIT), Problem::Io(source))
    }

    fn read_control(&self, part: &Part) -> Result<Vec<ControlFile>, Error> {
        let mut files: Vec<ControlFile> = Vec::new();
        let mut names = HashSet::new();
        let mut assembler = Assembler::default();
        self.visit_records(part, CONTROL_LIMIT, |header, content| {
            let wrap = |problem| self.problem(part, CONTROL_LIMIT, problem);
            let Some(member) = assembler.take(header, content).map_err(wrap)? else {
                return Ok(());
            };
            if let Some(file) = control_file(member, content).map_err(wrap)? {
                if !names.insert(file.name.clone()) {
                    let problem = "it is there twice".to_owned();
                    return Err(wrap(Problem::Refused(Refusal { member: file.name, problem })));
                }
                files.push(file);
            }
            Ok(())
        })?;
        if !files.iter().any(|file| file.name == "control") {
            let problem = "it has no control file".to_owned();
            return Err(Error::Format { path: self.path.clone(), problem });
        }
        Ok(files)
    }

    /// Calls `visit` with every record of a tar archive, then reads what is left of the stream,
    /// since decoders check their checksums at its end.
    fn visit_records<E: From<Error>>(
        &self,
        part: &Part,
        limit: u64,
        mut visit: impl FnMut(&tar::Header, &mut dyn Read) -> Result<(), E>,
    ) -> Result<(), E> {
        let wrap = |source| E::from(self.problem(part, limit, Problem::Io(source)));
        let file = File::open(&self.path)
            .map_err(|source| E::from(Error::Read { path: self.path.clone(), source }))?;
        let reader = part.reader(file).map_err(wrap)?;
        let reader = BufReader::with_capacity(64 * 1024, Bounded::new(reader, limit));
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries().map_err(wrap)?.raw(true) {
            let mut entry = entry.map_err(wrap)?;
            let header = entry.header().clone();
            visit(&header, &mut entry)?;
        }
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(wrap)?;
        Ok(())
    }

    fn problem(&self, part: &Part, limit: u64, problem: Problem) -> Error {
        let path = self.path.clone();
        match problem {
            Problem::Refused(Refusal { member, problem }) => {
                Error::Member { path, member, problem }
            }
            Problem::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
                Error::TooLarge { path, member: part.name.clone(), limit }
            }
            Problem::Io(source) => Error::Corrupt { path, member: part.name.clone(), source },
        }
    }
}

/// A control file from a member of the control archive, which is flat. `None`: the archive's
/// own directory, or a name with a dot, which dpkg ignores.
fn control_file(member: Member, content: &mut dyn Read) -> Result<Option<ControlFile>, Problem> {
    let name = String::from_utf8_lossy(&member.path[1..]).into_owned();
    let refuse = |problem: &str| {
        Problem::Refused(Refusal { member: name.clone(), problem: problem.to_owned() })
    };
    match member.kind {
        MemberKind::Directory if name == "." => Ok(None),
        MemberKind::File { .. } if name.contains('/') => {
            Err(refuse("control archives have no subdirectories"))
        }
        MemberKind::File { .. } if name.contains('.') => Ok(None),
        MemberKind::File { .. } if name.len() > CONTROL_NAME_LIMIT => {
            Err(refuse("its name is too long for a control file"))
        }
        MemberKind::File { .. } if !name.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(refuse("its name is not plain text"))
        }
        MemberKind::File { size } => {
            let mut bytes = Vec::new();
            content.take(size).read_to_end(&mut bytes)?;
            if bytes.len() as u64 != size {
                return Err(Problem::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            let (mode, mtime) = (member.mode, member.mtime);
            Ok(Some(ControlFile { name, mode, mtime, content: bytes }))
        }
        _ => Err(refuse("control archives hold only files")),
    }
}
