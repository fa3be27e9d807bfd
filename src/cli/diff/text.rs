//! A comparison for people.

use std::collections::BTreeSet;

use miette::Result;
use serde_json::Value;

use super::super::context::{Context, bytes};
use crate::artifact::manifest::State;
use crate::artifact::name::Format;
use crate::inspect::Comparison;
use crate::inspect::compare::{
    Account, Change, FileChange, FileState, GroupEntry, PackageState, Summary, TextChange,
};

/// Entries of a group that are shown before they are only counted.
const SHOWN: usize = 40;

/// Lines of one file, and of all of them, that are shown.
const LINES: usize = 60;
const ALL_LINES: usize = 240;

/// The longest value that is shown whole.
const WIDTH: usize = 36;

/// dpkg's own records change with every package.
const RECORDS: &str = "/var/lib/dpkg/";

pub(super) fn show(context: &Context, comparison: &Comparison, all: bool) -> Result<()> {
    let Comparison { old, new, .. } = comparison;
    context.data(format!("old  {}", described(old)))?;
    context.data(format!("new  {}", described(new)))?;
    for note in &comparison.notes {
        context.say(format!("note: {note}"));
    }
    if comparison.is_empty() {
        context.say("nothing differs");
        return Ok(());
    }
    let printer = Printer { context, shown: if all { usize::MAX } else { SHOWN } };
    printer.group("parameters", comparison.parameters.iter().map(parameter).collect())?;
    printer.group("packages", comparison.packages.iter().map(package).collect())?;
    show_lines(context, &comparison.configuration, all)?;
    printer.files(comparison, all)?;
    printer.group("units", comparison.units.iter().map(unit).collect())?;
    printer.group("users", comparison.users.iter().map(user).collect())?;
    printer.group("groups", comparison.groups.iter().map(group).collect())?;
    printer.group("capabilities", comparison.capabilities.iter().map(plain).collect())?;
    printer.group("state volumes", comparison.states.iter().map(volume).collect())?;
    let secrets = &comparison.secrets;
    let added = secrets.added.iter().map(|name| format!("+ {name}"));
    let removed = secrets.removed.iter().map(|name| format!("- {name}"));
    printer.group("secrets", added.chain(removed).collect())?;
    printer.group("layers", layers(comparison))?;
    printer.group("size", sizes(old, new))
}

/// An image in one line.
fn described(summary: &Summary) -> String {
    let format = match summary.format {
        Format::LxcTemplate => "template",
        Format::Qcow2 => "disk",
    };
    let digest = match summary.digest {
        Some(digest) => digest.short(),
        None => "as defined".to_owned(),
    };
    let site = summary.site.as_ref().map(|site| format!(" for {site}")).unwrap_or_default();
    let Summary { role, version, .. } = summary;
    // Of the path of an artifact the name is enough to know it by.
    let name = match summary.digest {
        Some(_) => summary.name.rsplit('/').next().unwrap_or_default(),
        None => &summary.name,
    };
    format!("{role} {version}{site}, {format} {digest}  ({name})")
}

struct Printer<'a> {
    context: &'a Context,
    shown: usize,
}

impl Printer<'_> {
    /// A heading and the entries below it, if there are any.
    fn group(&self, title: &str, entries: Vec<String>) -> Result<()> {
        self.group_with(title, entries, None)
    }

    /// The same with a line that is always shown, if there is one.
    fn group_with(&self, title: &str, entries: Vec<String>, last: Option<String>) -> Result<()> {
        if entries.is_empty() && last.is_none() {
            return Ok(());
        }
        self.context.data(title)?;
        for entry in entries.iter().take(self.shown) {
            self.context.data(format!("  {entry}"))?;
        }
        let more = entries.len().saturating_sub(self.shown);
        if more > 0 {
            self.context.data(format!("  and {more} more: --all shows them"))?;
        }
        last.map_or(Ok(()), |line| self.context.data(format!("  {line}")))
    }

    /// Files, but for those of packages that are told above, and dpkg's records of them.
    fn files(&self, comparison: &Comparison, all: bool) -> Result<()> {
        let packages: BTreeSet<&str> =
            comparison.packages.iter().map(|change| change.name.as_str()).collect();
        let of_package = |file: &&FileChange| match &file.package {
            Some(package) => packages.contains(package.as_str()),
            None => file.path.starts_with(RECORDS),
        };
        let is_told = |file: &FileChange| {
            let told = comparison.configuration.iter().any(|text| text.path == file.path);
            told && only_content(file)
        };
        let hidden = |file: &&FileChange| {
            !all && of_package(file) && !file.path.starts_with("/etc/") && !file.defined
        };
        let counted = match comparison.files.iter().filter(hidden).count() {
            0 => None,
            1 => Some("and 1 path of the packages above".to_owned()),
            more => Some(format!("and {more} paths of the packages above")),
        };
        let shown = comparison.files.iter().filter(|file| !hidden(file) && !is_told(file));
        self.group_with("files", shown.map(file).collect(), counted)
    }
}

/// The unified differences, shortened if they are long.
fn show_lines(context: &Context, texts: &[TextChange], all: bool) -> Result<()> {
    if texts.is_empty() {
        return Ok(());
    }
    context.data("configuration")?;
    let mut left = if all { usize::MAX } else { ALL_LINES };
    for TextChange { path, added, removed, diff } in texts {
        if left == 0 {
            context.data(format!("  ~ {path}  {added} lines new, {removed} gone"))?;
            continue;
        }
        let lines: Vec<&str> = diff.lines().collect();
        let shown = lines.len().min(left).min(if all { usize::MAX } else { LINES });
        for line in &lines[..shown] {
            context.data(line)?;
        }
        if shown < lines.len() {
            let more = lines.len() - shown;
            context.data(format!("… {more} more lines: --all shows them"))?;
        }
        left -= shown;
    }
    Ok(())
}

/// `+ name  new`, `- name  old` or `~ name  old → new`.
fn entry(name: &str, from: Option<String>, to: Option<String>) -> String {
    let (sign, text) = match (from, to) {
        (None, to) => ('+', to.unwrap_or_default()),
        (Some(from), None) => ('-', from),
        (Some(from), Some(to)) => ('~', format!("{from} → {to}")),
    };
    format!("{sign} {name}  {text}").trim_end().to_owned()
}

fn plain(change: &Change<String>) -> String {
    entry(&change.name, change.from.clone(), change.to.clone())
}

fn package(change: &Change<PackageState>) -> String {
    let version = |state: &Option<PackageState>| state.as_ref().map(|it| it.version.clone());
    let (from, to) = (version(&change.from), version(&change.to));
    match (&change.from, &change.to) {
        (Some(one), Some(other)) if one.version == other.version => {
            entry(&change.name, from, Some("another file of this version".to_owned()))
        }
        _ => entry(&change.name, from, to),
    }
}

/// Values of lists and records are shown by how many they are where they are long.
fn parameter(change: &Change<Value>) -> String {
    let short = |value: &Value| {
        let text = value.to_string();
        match value {
            _ if text.chars().count() <= WIDTH => text,
            Value::Array(items) => format!("[{} items]", items.len()),
            _ => format!("{}…", text.chars().take(WIDTH).collect::<String>()),
        }
    };
    let (from, to) = (change.from.as_ref().map(short), change.to.as_ref().map(short));
    match (&from, &to) {
        (Some(one), Some(other)) if one == other => format!("~ {}  {one}, others", change.name),
        _ => entry(&change.name, from, to),
    }
}

fn unit(change: &Change<Vec<String>>) -> String {
    let join = |reasons: &Vec<String>| reasons.join(", ");
    entry(&change.name, change.from.as_ref().map(join), change.to.as_ref().map(join))
}

fn user(change: &Change<Account>) -> String {
    let text = |user: &Account| format!("{}:{} {} {}", user.uid, user.gid, user.home, user.shell);
    entry(&change.name, change.from.as_ref().map(text), change.to.as_ref().map(text))
}

fn group(change: &Change<GroupEntry>) -> String {
    let text = |group: &GroupEntry| match group.members.is_empty() {
        true => group.gid.to_string(),
        false => format!("{} with {}", group.gid, group.members.join(", ")),
    };
    entry(&change.name, change.from.as_ref().map(text), change.to.as_ref().map(text))
}

fn volume(change: &Change<State>) -> String {
    let text = |state: &State| {
        format!("{} {}:{} {}", state.path.display(), state.owner, state.group, state.mode)
    };
    entry(&change.name, change.from.as_ref().map(text), change.to.as_ref().map(text))
}

/// Whether what a file holds is all that differs.
fn only_content(change: &FileChange) -> bool {
    let without_size =
        |state: &Option<FileState>| state.clone().map(|state| FileState { size: None, ..state });
    change.content && without_size(&change.from) == without_size(&change.to)
}

fn file(change: &FileChange) -> String {
    let FileChange { path, from, to, content, .. } = change;
    match (from, to) {
        (Some(from), Some(to)) => {
            format!("~ {path}  {}", differences(from, to, *content).join(", "))
        }
        (from, to) => entry(path, from.as_ref().map(whole), to.as_ref().map(whole)),
    }
}

/// What a path is.
fn whole(state: &FileState) -> String {
    let FileState { mode, owner, group, .. } = state;
    let capabilities = state.capabilities.as_ref();
    let capabilities = capabilities.map(|it| format!(", {it}")).unwrap_or_default();
    match (state.size, &state.target) {
        (_, Some(target)) => format!("→ {}", target.display()),
        (Some(size), _) => format!("{}, {mode} {owner}:{group}{capabilities}", bytes(size)),
        (None, None) => format!("directory, {mode} {owner}:{group}"),
    }
}

fn differences(from: &FileState, to: &FileState, content: bool) -> Vec<String> {
    let mut differences = Vec::new();
    if from.kind != to.kind {
        differences.push(format!("{} → {}", from.kind, to.kind));
    }
    match (from.size, to.size) {
        (Some(one), Some(other)) if one != other => {
            differences.push(format!("{} → {}", bytes(one), bytes(other)));
        }
        _ if content => differences.push("other content".to_owned()),
        _ => {}
    }
    if from.mode != to.mode && to.kind != "link" {
        differences.push(format!("mode {} → {}", from.mode, to.mode));
    }
    let (one, other) =
        (format!("{}:{}", from.owner, from.group), format!("{}:{}", to.owner, to.group));
    if one != other {
        differences.push(format!("owner {one} → {other}"));
    }
    if from.capabilities != to.capabilities {
        let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        let (one, other) = (word(&from.capabilities), word(&to.capabilities));
        differences.push(format!("capabilities {one} → {other}"));
    }
    if let (Some(one), Some(other)) = (&from.target, &to.target)
        && one != other
    {
        differences.push(format!("{} → {}", one.display(), other.display()));
    }
    differences
}

/// The layers that are not the same. One that only one image has is told by its packages and files.
fn layers(comparison: &Comparison) -> Vec<String> {
    let text = |layer: &crate::inspect::compare::LayerState| match (layer.digest, layer.bytes) {
        (Some(digest), Some(size)) => format!("{}, {}", digest.short(), bytes(size)),
        _ => "not built yet".to_owned(),
    };
    let layers = comparison.layers.iter();
    layers
        .map(|change| {
            entry(&change.name, change.from.as_ref().map(text), change.to.as_ref().map(text))
        })
        .collect()
}

fn sizes(old: &Summary, new: &Summary) -> Vec<String> {
    let size = |name: &str, from: Option<u64>, to: Option<u64>| {
        let (from, to) = from.zip(to).filter(|(from, to)| from != to)?;
        let (sign, difference) = if to > from { ('+', to - from) } else { ('-', from - to) };
        let (from, to, difference) = (bytes(from), bytes(to), bytes(difference));
        Some(format!("~ {name}  {from} → {to} ({sign}{difference})"))
    };
    let artifact = match old.format == new.format {
        true => size("artifact", old.artifact_bytes, new.artifact_bytes),
        false => None,
    };
    artifact.into_iter().chain(size("files", old.file_bytes, new.file_bytes)).collect()
}
