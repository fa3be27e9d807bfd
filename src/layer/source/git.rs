//! The tree of one commit of a git repository, every object verified by its id.
//!
//! The program `git` finds objects and, where need be, fetches them. Nothing that it gives is believed: a
//! commit is known by its id, the commit names its tree, trees name trees and files, each by the
//! hash of its content (gitformat-pack(5); Pro Git, "Git Internals – Git Objects"). So what comes
//! out is what the commit pins, wherever it came from.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use sha1_checked::{CollisionResult, Digest as _, Sha1};
use sha2::Sha256;

use super::{COUNT_LIMIT, Error, SIZE_LIMIT};
use crate::definition::CommitId;

/// Most bytes of one object. They are hashed before anything of them is used, in memory.
const OBJECT_LIMIT: u64 = 2 << 30;
/// What a file begins with whose content is elsewhere (git-lfs, docs/spec.md).
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Writes the tree of `commit`, of the repository at `repository`, as a tar archive like that of
/// [`super::pack`]. Its files are as old as the commit.
///
/// # Errors
/// There is no `git`; the repository has not all objects; one is not what its id says; or the tree has what
/// an image cannot have: submodules, pointers to files of git-lfs, names that lead out.
pub fn pack_commit(repository: &Path, commit: &CommitId, output: impl Write) -> Result<(), Error> {
    let mut walk = Walk { objects: Objects::open(repository)?, count: 0, bytes: 0, mtime: 0 };
    let content = walk.objects.read(commit.as_str(), "commit")?;
    let tree = header(&content, "tree").ok_or_else(|| damaged("the commit names no tree"))?;
    walk.mtime = commit_time(&content);
    let mut builder = tar::Builder::new(output);
    let width = commit.as_str().len() / 2;
    walk.tree(&tree, Path::new(""), width, &mut builder)?;
    let failed = |source| Error::Io { action: "pack", path: repository.to_owned(), source };
    builder.into_inner().and_then(|mut output| output.flush()).map_err(failed)
}

/// Whether `repository` is one, and has `commit`.
pub fn has_commit(repository: &Path, commit: &CommitId) -> bool {
    let mut command = git(repository);
    command.args(["cat-file", "-e"]).arg(format!("{commit}^{{commit}}"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Fetches `commit` alone from `url` into a new bare repository at `directory`.
///
/// # Errors
/// What `git` says, in one line.
pub fn fetch(directory: &Path, url: &str, commit: &CommitId) -> Result<(), String> {
    let format = if commit.as_str().len() == 64 { "sha256" } else { "sha1" };
    let mut init = bare();
    init.args(["init", "--quiet", "--bare", "--template=", "--object-format", format]);
    init.arg(directory);
    run(init)?;
    let mut fetch = git(directory);
    // A server that is silent is given up, as for every other download.
    fetch.args(["-c", "http.lowSpeedLimit=1024", "-c", "http.lowSpeedTime=30"]);
    fetch.args(["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head"]);
    // After `--` nothing is an option, and only these ways may be taken, also by redirections.
    fetch.args(["--", url, commit.as_str()]);
    fetch.env("GIT_ALLOW_PROTOCOL", "http:https:file");
    run(fetch)
}

fn run(mut command: Command) -> Result<(), String> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let output = command.output().map_err(|error| format!("cannot run git: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    Err(last.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned()))
}

/// `git` that asks nobody anything, and heeds no settings of this machine or user.
fn bare() -> Command {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("LC_ALL", "C");
    command
}

/// `git` in the repository at `path`, whoever owns it.
fn git(path: &Path) -> Command {
    let mut command = bare();
    command.arg("-c").arg("safe.directory=*").arg("-C").arg(path);
    command
}

fn damaged(problem: impl Into<String>) -> Error {
    Error::Damaged(io::Error::other(problem.into()))
}

/// The objects of a repository, read one by one from `git cat-file --batch` (git-cat-file(1)).
struct Objects {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Objects {
    fn open(repository: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io { action: "run `git` in", path: repository.into(), source };
        let mut command = git(repository);
        command.args(["cat-file", "--batch"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| damaged("git has no pipes"))?;
        Ok(Self { child, input, output: BufReader::with_capacity(128 * 1024, output) })
    }

    /// The content of the object `id`, which must be of this kind and have this id.
    fn read(&mut self, id: &str, kind: &str) -> Result<Vec<u8>, Error> {
        writeln!(self.input, "{id}").and_then(|()| self.input.flush()).map_err(Error::Damaged)?;
        let mut line = String::new();
        (&mut self.output).take(1024).read_line(&mut line).map_err(Error::Damaged)?;
        let mut words = line.split_whitespace().skip(1);
        let (found, size) = (words.next(), words.next().and_then(|size| size.parse::<u64>().ok()));
        let Some(size) = size.filter(|_| found == Some(kind)) else {
            return Err(damaged(format!("the repository has no {kind} {id}")));
        };
        if size > OBJECT_LIMIT {
            return Err(Error::TooLarge {
                limit: format!("{} GiB in one file", OBJECT_LIMIT >> 30),
            });
        }
        let mut content = Vec::new();
        (&mut self.output).take(size).read_to_end(&mut content).map_err(Error::Damaged)?;
        let mut end = [0];
        self.output.read_exact(&mut end).map_err(Error::Damaged)?;
        let prefix = format!("{kind} {}\0", content.len());
        if hash(id.len(), prefix.as_bytes(), &content)? != id {
            return Err(damaged(format!("the {kind} {id} is not what its id says")));
        }
        Ok(content)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The id of an object: the SHA-1 or SHA-256 of its kind, size and content. Content that was made to
/// collide under SHA-1 is refused.
fn hash(digits: usize, prefix: &[u8], content: &[u8]) -> Result<String, Error> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if digits == 64 {
        let mut hasher = Sha256::default();
        sha2::Digest::update(&mut hasher, prefix);
        sha2::Digest::update(&mut hasher, content);
        return Ok(hex(&sha2::Digest::finalize(hasher)));
    }
    let mut hasher = Sha1::new();
    hasher.update(prefix);
    hasher.update(content);
    match hasher.try_finalize() {
        CollisionResult::Ok(hash) => Ok(hex(&hash)),
        CollisionResult::Mitigated(_) | CollisionResult::Collision(_) => {
            Err(damaged("an object was made to collide with another one of the same SHA-1"))
        }
    }
}

/// The value of a header line of a commit.
fn header(commit: &[u8], name: &str) -> Option<String> {
    let text = commit.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let line = text.into_iter().find_map(|line| line.strip_prefix(name.as_bytes()))?;
    Some(String::from_utf8_lossy(line).trim().to_owned())
}

/// When it was committed, in seconds since 1970: the number before the zone at the end of the line.
fn commit_time(commit: &[u8]) -> u64 {
    let line = header(commit, "committer").unwrap_or_default();
    line.rsplit(' ').nth(1).and_then(|time| time.parse().ok()).unwrap_or(0)
}

struct Walk {
    objects: Objects,
    count: usize,
    bytes: u64,
    mtime: u64,
}

impl Walk {
    /// Writes what is in the tree `id`, which is at `path`. Ids have `width` bytes.
    fn tree<W: Write>(
        &mut self,
        id: &str,
        path: &Path,
        width: usize,
        builder: &mut tar::Builder<W>,
    ) -> Result<(), Error> {
        let content = self.objects.read(id, "tree")?;
        let mut rest = content.as_slice();
        while !rest.is_empty() {
            let (mode, name, object) = entry(&mut rest, width)?;
            let path = path.join(name);
            self.count += 1;
            if self.count > COUNT_LIMIT {
                return Err(Error::TooLarge { limit: format!("{COUNT_LIMIT} files") });
            }
            // A tree cannot hold itself, but it can be very deep.
            if path.as_os_str().len() >= 4096 {
                return Err(Error::member(path, "its name is too long"));
            }
            self.member(&mode, &path, &object, width, builder)?;
        }
        Ok(())
    }

    fn member<W: Write>(
        &mut self,
        mode: &str,
        path: &Path,
        object: &str,
        width: usize,
        builder: &mut tar::Builder<W>,
    ) -> Result<(), Error> {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(self.mtime);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let failed = |source| Error::Io { action: "pack", path: path.to_owned(), source };
        match mode {
            "40000" => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                builder.append_data(&mut header, path, io::empty()).map_err(failed)?;
                self.tree(object, path, width, builder)
            }
            "100644" | "100664" | "100755" => {
                let content = self.blob(object)?;
                if content.starts_with(LFS_POINTER) {
                    let problem =
                        "it is a pointer to a file of git-lfs, which the commit does not hold";
                    return Err(Error::member(path, problem));
                }
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(if mode == "100755" { 0o755 } else { 0o644 });
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, &content[..]).map_err(failed)
            }
            "120000" => {
                let content = self.blob(object)?;
                let target = String::from_utf8(content)
                    .map_err(|_| Error::member(path, "its target is not UTF-8"))?;
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                builder.append_link(&mut header, path, target).map_err(failed)
            }
            "160000" => {
                let problem = "it is a submodule: give that repository a source of its own";
                Err(Error::member(path, problem))
            }
            _ => Err(Error::member(path, format!("it has the unknown mode {mode}"))),
        }
    }

    fn blob(&mut self, id: &str) -> Result<Vec<u8>, Error> {
        let content = self.objects.read(id, "blob")?;
        self.bytes += content.len() as u64;
        if self.bytes > SIZE_LIMIT {
            return Err(Error::TooLarge { limit: format!("{} GiB", SIZE_LIMIT >> 30) });
        }
        Ok(content)
    }
}

/// Takes the next entry off a tree: `MODE NAME\0ID`, the id in binary.
fn entry(rest: &mut &[u8], width: usize) -> Result<(String, PathBuf, String), Error> {
    let cut = |rest: &mut &[u8], end: u8| -> Option<Vec<u8>> {
        let position = rest.iter().position(|byte| *byte == end)?;
        let found = rest[..position].to_vec();
        *rest = &rest[position + 1..];
        Some(found)
    };
    let malformed = || damaged("a tree is malformed");
    let mode = cut(rest, b' ').and_then(|mode| String::from_utf8(mode).ok());
    let mode = mode.ok_or_else(malformed)?;
    let name = cut(rest, 0).and_then(|name| String::from_utf8(name).ok());
    let name = name.ok_or_else(malformed)?;
    if matches!(name.as_str(), "" | "." | "..") || name.contains('/') {
        return Err(Error::member(name, "that is no name of a file"));
    }
    let (id, after) = rest.split_at_checked(width).ok_or_else(malformed)?;
    *rest = after;
    Ok((mode, name.into(), id.iter().map(|byte| format!("{byte:02x}")).collect()))
}
