//! What Proxmox VE asks of an LXC template, checked on the finished file with other programs' and
//! libraries' eyes: nothing here uses imgbuild's own reading of archives.
//!
//! The rules follow from pve-container 6.1.10 and 5.3.5 and pve-storage 9.1.7 and 8.3.8.

mod extract;
mod rules;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tar::EntryType;

pub use extract::{Extraction, extract};

/// A template that was read.
pub struct Template {
    file_name: String,
    members: Vec<Member>,
    /// Bytes after the last member.
    tail: Vec<u8>,
    /// Where its role keeps state.
    states: Vec<PathBuf>,
}

/// One member, as it stands in the archive.
struct Member {
    name: String,
    kind: EntryType,
    link: String,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    xattrs: Vec<String>,
    /// The first bytes.
    content: Vec<u8>,
}

/// How much of each file's content is kept.
const CONTENT: u64 = 64 * 1024;

impl Template {
    /// Reads the template at `path`; `states` are the paths of its role's state volumes.
    pub fn read(path: &Path, states: &[&Path]) -> Self {
        let raw = zstd::Decoder::new(File::open(path).unwrap()).unwrap();
        let mut archive = tar::Archive::new(raw);
        archive.set_ignore_zeros(false);
        let members =
            archive.entries().unwrap().map(|member| Member::read(member.unwrap())).collect();
        let mut tail = Vec::new();
        archive.into_inner().read_to_end(&mut tail).unwrap();
        let file_name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let states = states.iter().map(|state| state.to_path_buf()).collect();
        Self { file_name, members, tail, states }
    }

    /// `RULE: what is wrong` for every rule that the template breaks.
    pub fn violations(&self) -> Vec<String> {
        let broken =
            |(name, rule): &(&str, rules::Rule)| Some(format!("{name}: {}", rule(self).err()?));
        rules::RULES.iter().filter_map(broken).collect()
    }

    fn get(&self, path: &Path) -> Option<&Member> {
        self.members.iter().find(|member| member.path() == path)
    }

    /// What `path` leads to, symbolic and hard links followed inside the tree.
    fn resolve(&self, path: &str) -> Option<&Member> {
        let mut found = PathBuf::new();
        let mut left: Vec<String> = names(path);
        left.reverse();
        for _ in 0..100 {
            let Some(name) = left.pop() else { return self.get(&found) };
            if name == ".." {
                found.pop();
                continue;
            }
            let next = found.join(&name);
            let member = self.get(&next)?;
            match member.kind {
                EntryType::Symlink => {
                    if member.link.starts_with('/') {
                        found = PathBuf::new();
                    }
                    left.extend(names(&member.link).into_iter().rev());
                }
                EntryType::Link => found = plain(&member.link),
                _ => found = next,
            }
        }
        None
    }

    fn text(&self, path: &str) -> Option<String> {
        let file = self.resolve(path).filter(|member| member.kind == EntryType::Regular)?;
        Some(String::from_utf8_lossy(&file.content).into_owned())
    }

    /// The value of `name` in the os-release file.
    fn os_release(&self, name: &str) -> Option<String> {
        let text = self.text("/etc/os-release").or_else(|| self.text("/usr/lib/os-release"))?;
        assignment(&text, name)
    }

    fn for_each(&self, broken: impl Fn(&Member) -> bool) -> Result<(), String> {
        match self.members.iter().find(|member| broken(member)) {
            Some(member) => Err(member.name.clone()),
            None => Ok(()),
        }
    }
}

impl Member {
    fn read(mut entry: tar::Entry<'_, impl Read>) -> Self {
        let mut xattrs = Vec::new();
        if let Some(extensions) = entry.pax_extensions().unwrap() {
            for extension in extensions {
                let extension = extension.unwrap();
                if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
                    let revision = extension.value_bytes().get(3).copied().unwrap_or_default();
                    let length = extension.value_bytes().len();
                    xattrs.push(format!("{name} revision {revision} length {length}"));
                }
            }
        }
        let link = entry.link_name_bytes().unwrap_or_default().into_owned();
        let header = entry.header();
        let mut member = Self {
            name: String::from_utf8(entry.path_bytes().into_owned()).unwrap(),
            kind: header.entry_type(),
            link: String::from_utf8(link).unwrap(),
            mode: header.mode().unwrap(),
            uid: header.uid().unwrap(),
            gid: header.gid().unwrap(),
            size: entry.size(),
            xattrs,
            content: Vec::new(),
        };
        entry.by_ref().take(CONTENT).read_to_end(&mut member.content).unwrap();
        member
    }

    fn path(&self) -> PathBuf {
        plain(&self.name)
    }
}

fn names(path: &str) -> Vec<String> {
    path.split('/').filter(|name| !matches!(*name, "" | ".")).map(str::to_owned).collect()
}

fn plain(name: &str) -> PathBuf {
    names(name).iter().collect()
}

fn assignment(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}
