//! The rules, each by itself.

use std::collections::HashSet;
use std::path::Path;

use tar::EntryType;

use super::{Template, assignment, plain};

/// A rule: what is wrong, if anything.
pub(super) type Rule = fn(&Template) -> Result<(), String>;

/// Every rule by its name.
pub(super) const RULES: &[(&str, Rule)] = &[
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
    let mut seen = HashSet::new();
    for member in &template.members {
        if !seen.insert(member.path()) {
            return Err(member.name.clone());
        }
    }
    Ok(())
}

fn parents_first(template: &Template) -> Result<(), String> {
    let mut directories = HashSet::new();
    for member in &template.members {
        let path = member.path();
        if path.parent().is_some_and(|parent| !directories.contains(parent)) {
            return Err(member.name.clone());
        }
        if member.kind == EntryType::Directory {
            directories.insert(path);
        }
    }
    Ok(())
}

fn links_after_files(template: &Template) -> Result<(), String> {
    let mut files = HashSet::new();
    for member in &template.members {
        match member.kind {
            EntryType::Regular => {
                files.insert(member.path());
            }
            EntryType::Link if !files.contains(&plain(&member.link)) => {
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
