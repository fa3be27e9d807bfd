//! What Proxmox VE asks of an LXC template, checked on the finished file with other programs' and
//! libraries' eyes: nothing here uses imgbuild's own reading of archives.
//!
//! The rules follow from pve-container 6.1.10 and 5.3.5 and pve-storage 9.1.7 and 8.3.8.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tar::EntryType;

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

/// A rule: what is wrong, if anything.
type Rule = fn(&Template) -> Result<(), String>;

/// Every rule by its name.
const RULES: &[(&str, Rule)] = &[
    ("the file name is one that Proxmox keeps as it is", file_name),
    ("member names begin with `./`", relative_names),
    ("nothing is below ./dev/", no_devices_below_dev),
    ("there are no device nodes, FIFOs or sockets", no_special_files),
    ("owners and groups are below 65536", ids),
    ("extended attributes are ones that Proxmox restores", extended_attributes),
    ("capabilities are the same in every user namespace", capability_revision),
    ("every path is there once", unique_paths),
    ("directories come before what they hold", parents_first),
    ("hard links come after their files", links_after_files),
    ("the archive ends with two blocks of zeros", end_of_archive),
    ("/etc/os-release names Debian or Ubuntu", os_release),
    ("/etc/debian_version or /etc/lsb-release can be parsed", release_version),
    ("/bin/sh leads to an ELF program", shell),
    ("/sbin/init leads to systemd", init),
    ("directories that Proxmox writes to exist", directories),
    ("account files exist", account_files),
    ("ifupdown and a DHCP client are there", network_tools),
    ("no kernel or boot loader", no_kernel),
    ("no entries in /etc/fstab", no_mounts),
    ("/etc/machine-id is an empty file", machine_id),
    ("nothing keeps services from starting", no_policy),
    ("state is kept in real directories", state_directories),
];

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
        let broken = |(name, rule): &(&str, Rule)| Some(format!("{name}: {}", rule(self).err()?));
        RULES.iter().filter_map(broken).collect()
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

fn require(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn file_name(template: &Template) -> Result<(), String> {
    let name = &template.file_name;
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    require(name.ends_with(".tar.zst") && name.bytes().all(kept) && name.len() <= 255, name)
}

fn relative_names(template: &Template) -> Result<(), String> {
    template.for_each(|member| {
        !member.name.starts_with("./") || member.name.split('/').any(|name| name == "..")
    })
}

fn no_devices_below_dev(template: &Template) -> Result<(), String> {
    template
        .for_each(|member| member.path().starts_with("dev") && member.path() != Path::new("dev"))
}

fn no_special_files(template: &Template) -> Result<(), String> {
    const KINDS: [EntryType; 4] =
        [EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link];
    template.for_each(|member| !KINDS.contains(&member.kind))
}

fn ids(template: &Template) -> Result<(), String> {
    template.for_each(|member| member.uid >= 65_536 || member.gid >= 65_536)
}

fn extended_attributes(template: &Template) -> Result<(), String> {
    let restored =
        |name: &String| name.starts_with("user.") || name.starts_with("security.capability ");
    template.for_each(|member| !member.xattrs.iter().all(restored))
}

fn capability_revision(template: &Template) -> Result<(), String> {
    let kept = |name: &String| {
        !name.starts_with("security.capability ") || name.ends_with(" revision 2 length 20")
    };
    template.for_each(|member| !member.xattrs.iter().all(kept))
}

fn unique_paths(template: &Template) -> Result<(), String> {
    let mut seen = HashMap::new();
    for member in &template.members {
        if seen.insert(member.path(), ()).is_some() {
            return Err(member.name.clone());
        }
    }
    Ok(())
}

fn parents_first(template: &Template) -> Result<(), String> {
    let mut directories = vec![];
    for member in &template.members {
        let path = member.path();
        if let Some(parent) = path.parent()
            && !directories.iter().rev().any(|directory| directory == parent)
        {
            return Err(member.name.clone());
        }
        if member.kind == EntryType::Directory {
            directories.push(path);
        }
    }
    Ok(())
}

fn links_after_files(template: &Template) -> Result<(), String> {
    let mut files = HashMap::new();
    for member in &template.members {
        match member.kind {
            EntryType::Regular => {
                files.insert(member.path(), ());
            }
            EntryType::Link if !files.contains_key(&plain(&member.link)) => {
                return Err(format!("{} -> {}", member.name, member.link));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The library stops after the first block of zeros.
fn end_of_archive(template: &Template) -> Result<(), String> {
    let tail = &template.tail;
    require(
        tail.len() <= 1024 && tail.iter().all(|byte| *byte == 0),
        &format!("{} bytes", tail.len()),
    )
}

fn os_release(template: &Template) -> Result<(), String> {
    let id = template.os_release("ID").unwrap_or_default();
    require(matches!(id.as_str(), "debian" | "ubuntu"), &format!("ID={id}"))
}

fn release_version(template: &Template) -> Result<(), String> {
    if template.os_release("ID").as_deref() == Some("ubuntu") {
        let text = template.text("/etc/lsb-release").unwrap_or_default();
        let ubuntu = assignment(&text, "DISTRIB_ID").as_deref() == Some("Ubuntu");
        return require(ubuntu && assignment(&text, "DISTRIB_RELEASE").is_some(), &text);
    }
    let text = template.text("/etc/debian_version").unwrap_or_default();
    let number = text.trim_end().split('.').all(|part| part.parse::<u32>().is_ok());
    require(number || text.trim_end().ends_with("/sid"), &text)
}

fn shell(template: &Template) -> Result<(), String> {
    let shell = template.resolve("/bin/sh").ok_or("it leads nowhere")?;
    require(shell.content.starts_with(b"\x7fELF"), &shell.name)
}

fn init(template: &Template) -> Result<(), String> {
    let init = template.resolve("/sbin/init").ok_or("it leads nowhere")?;
    require(init.path() == Path::new("usr/lib/systemd/systemd"), &init.name)
}

fn directories(template: &Template) -> Result<(), String> {
    for path in ["dev", "proc", "sys", "run", "tmp", "root", "etc/systemd", "etc/network"] {
        let found = template.get(Path::new(path));
        require(found.is_some_and(|member| member.kind == EntryType::Directory), path)?;
    }
    Ok(())
}

fn account_files(template: &Template) -> Result<(), String> {
    for path in ["etc/passwd", "etc/group", "etc/shadow"] {
        let found = template.get(Path::new(path));
        require(found.is_some_and(|member| member.kind == EntryType::Regular), path)?;
    }
    Ok(())
}

fn network_tools(template: &Template) -> Result<(), String> {
    if template.os_release("ID").as_deref() == Some("ubuntu") {
        return Ok(());
    }
    require(template.resolve("/usr/sbin/ifup").is_some(), "no ifup")?;
    let clients = ["/usr/sbin/dhcpcd", "/usr/sbin/dhclient"];
    require(clients.iter().any(|path| template.resolve(path).is_some()), "no DHCP client")
}

fn no_kernel(template: &Template) -> Result<(), String> {
    template.for_each(|member| {
        let path = member.path();
        let inside = path.starts_with("boot") || path.starts_with("usr/lib/modules");
        (inside && member.kind != EntryType::Directory)
            || ["vmlinuz", "initrd.img"].iter().any(|name| path == Path::new(name))
    })
}

fn no_mounts(template: &Template) -> Result<(), String> {
    let text = template.text("/etc/fstab").unwrap_or_default();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    require(lines.all(|line| line.starts_with('#')), &text)
}

fn machine_id(template: &Template) -> Result<(), String> {
    let found = template.get(Path::new("etc/machine-id")).ok_or("it is missing")?;
    require(found.kind == EntryType::Regular && found.size == 0, &format!("{} bytes", found.size))
}

fn no_policy(template: &Template) -> Result<(), String> {
    let path = Path::new("usr/sbin/policy-rc.d");
    require(template.get(path).is_none(), "policy-rc.d is left")
}

fn state_directories(template: &Template) -> Result<(), String> {
    for state in &template.states {
        let path = state.strip_prefix("/").unwrap_or(state);
        for ancestor in path.ancestors() {
            let found = template.get(ancestor);
            let directory = found.is_some_and(|member| member.kind == EntryType::Directory);
            require(directory, &ancestor.display().to_string())?;
        }
    }
    Ok(())
}

/// Whether [`extract`] could be tried.
#[derive(Debug, PartialEq, Eq)]
pub enum Extraction {
    /// The template was extracted and is what its members say.
    Done,
    /// This machine has no GNU tar with zstd, or no way to become root of 65,536 ids.
    Unavailable(String),
}

/// Extracts the template at `path` into `directory` with the options that Proxmox gives to tar, and
/// compares the result with the members.
///
/// # Panics
/// If tar fails or complains, or a path is not what it should be.
pub fn extract(path: &Path, directory: &Path) -> Extraction {
    let options = [
        "--zstd",
        "--one-file-system",
        "-p",
        "--sparse",
        "--numeric-owner",
        "--acls",
        "--xattrs",
        "--xattrs-include=user.*",
        "--xattrs-include=security.capability",
        "--warning=no-file-ignored",
        "--warning=no-xattr-write",
        "--skip-old-files",
        "--anchored",
        "--exclude",
        "./dev/*",
    ];
    if !rustix::process::geteuid().is_root() {
        return Extraction::Unavailable("only root can give files to others".to_owned());
    }
    let tried = Command::new("tar")
        .env("LC_ALL", "C")
        .args(["-x", "-f"])
        .arg(path)
        .args(options)
        .arg("-C")
        .arg(directory)
        .output();
    let output = match tried {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Extraction::Unavailable("tar is not installed".to_owned());
        }
        Err(error) => panic!("tar cannot be started: {error}"),
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", output.status);
    // The root itself is there before, and --skip-old-files leaves it as it is.
    for member in Template::read(path, &[]).members.iter().filter(|member| member.name != "./") {
        compare(member, &directory.join(member.path()));
    }
    Extraction::Done
}

fn compare(member: &Member, path: &Path) {
    let found = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let owner = (u64::from(found.uid()), u64::from(found.gid()));
    assert_eq!(owner, (member.uid, member.gid), "owner of {path:?}");
    match member.kind {
        EntryType::Symlink => {
            assert_eq!(fs::read_link(path).unwrap(), Path::new(&member.link), "{path:?}");
            return;
        }
        EntryType::Directory => assert!(found.is_dir(), "{path:?}"),
        EntryType::Regular => {
            assert!(found.is_file(), "{path:?}");
            assert_eq!(found.len(), member.size, "size of {path:?}");
        }
        EntryType::Link => {
            let file =
                path.to_str().unwrap().strip_suffix(member.path().to_str().unwrap()).unwrap();
            let file = fs::symlink_metadata(Path::new(file).join(plain(&member.link))).unwrap();
            assert_eq!(found.ino(), file.ino(), "{path:?} is not {:?}", member.link);
        }
        other => panic!("{path:?} is {other:?}"),
    }
    assert_eq!(found.mode() & 0o7777, member.mode & 0o7777, "mode of {path:?}");
}
