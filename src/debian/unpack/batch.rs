//! Unpacking one batch, and the small files around it.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Error;
use super::claims::Table;
use super::extract::{Context, Extraction, Placed};
use super::files::Resolver;
use super::package::Loaded;
use super::{record, settle};
use crate::debian::database::overrides::{Diversions, load_stat_overrides};
use crate::debian::database::root::Root;
use crate::debian::database::users::Users;
use crate::debian::database::{self, CONTROL_DIRECTORY, Database};
use crate::debian::deb::MemberKind;
use crate::progress::{Progress, Step};

/// Unpacks packages together and enters them into the database.
pub(super) fn unpack(
    root: &Root,
    database: &mut Database,
    packages: &[&Loaded],
    threads: NonZeroUsize,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let users = Users::load(root)?;
    let diversions = Diversions::load(root)?;
    let overrides = load_stat_overrides(root, &users)?;
    let total = packages.iter().map(|package| package.size).sum();
    let step = Step::start(progress, format!("unpack {} packages", packages.len()), Some(total));
    let step = Mutex::new(step);
    let context = Context {
        root,
        database,
        users: &users,
        diversions: &diversions,
        overrides: &overrides,
        packages,
        resolver: Resolver::new(root),
        table: Table::new(),
    };
    // The largest first, so that no thread is left alone with one at the end.
    let mut order: Vec<usize> = (0..packages.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(packages[index].size));
    let mut extracted: Vec<(usize, Result<Vec<Placed>, Error>)> =
        in_parallel(threads, &order, |&index| {
            let members = Extraction::new(&context, index).run();
            if let Ok(step) = step.lock() {
                step.advance(packages[index].size);
            }
            (index, members)
        });
    // Of several errors, the one of the first package counts, whichever came first.
    extracted.sort_by_key(|(index, _)| *index);
    let mut members = Vec::with_capacity(extracted.len());
    for (_, placed) in extracted {
        members.push(placed?);
    }
    settle::settle(&context, &mut members)?;
    let batch: Vec<(&Loaded, Vec<Placed>)> = packages.iter().copied().zip(members).collect();
    record::record(root, database, &diversions, &batch)?;
    if let Ok(step) = step.into_inner() {
        step.finish("unpacked");
    }
    Ok(())
}

/// Applies `work` to all `items` on some threads; the results are in the order of the items.
/// Threads end before this returns, so that the process may enter namespaces afterwards.
pub(super) fn in_parallel<T: Sync, U: Send>(
    threads: NonZeroUsize,
    items: &[T],
    work: impl Fn(&T) -> U + Sync,
) -> Vec<U> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut results = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match items.get(index) {
                Some(item) => results.push((index, work(item))),
                None => return results,
            }
        }
    };
    let mut results = std::thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads.get().min(items.len())).map(|_| scope.spawn(worker)).collect();
        let mut results = worker();
        for other in others {
            results.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Makes `/bin`, `/sbin`, `/lib` (and `/lib64`) links into `/usr` before `base-files` of a
/// release in which the package does not bring them is unpacked into an empty root directory
/// (as debootstrap's `setup_merged_usr`; Debian 12, Ubuntu before 24.04).
pub(super) fn merge_usr(root: &Root, batch: &[&Loaded]) -> Result<(), Error> {
    let Some(foundation) = batch.iter().find(|package| package.name() == "base-files") else {
        return Ok(());
    };
    let (mut merged, mut mtime) = (false, 0);
    foundation.deb.visit_data(|member, _| {
        merged |= member.path == b"/bin" && matches!(member.kind, MemberKind::Symlink { .. });
        mtime = mtime.max(member.mtime);
        Ok::<_, Error>(())
    })?;
    if merged {
        return Ok(());
    }
    let mut names = vec!["bin", "lib", "sbin"];
    if foundation.stanza.architecture == "amd64" {
        names.push("lib64");
    }
    for name in names {
        let (link, target) = (format!("/{name}").into_bytes(), format!("usr/{name}"));
        let make = root
            .make_directories(format!("/{target}").as_bytes())
            .and_then(|()| root.make_link(&link, &target))
            .and_then(|()| root.set_mtime(&link, mtime));
        make.map_err(|source| Error::Create {
            path: root.path().join(name),
            package: foundation.label(),
            source,
        })?;
    }
    Ok(())
}

/// Puts the control files of a package where its `preinst` expects them: debconf finds
/// `templates` and `config` beside the script.
pub(super) fn write_control(root: &Root, package: &Loaded) -> Result<(), Error> {
    let directory = CONTROL_DIRECTORY.as_bytes();
    remove_control(root)?;
    let wrap = |path: &[u8]| {
        let path = root.outside(path);
        move |source| database::Error::Io { action: "write", path, source }
    };
    root.make_directories(directory).map_err(wrap(directory))?;
    for file in package.deb.control_files() {
        let path = [directory, b"/", file.name.as_bytes()].concat();
        // dpkg makes scripts executable that are not.
        let is_open = file.mode & 0o555 == 0o555;
        let mode = if file.name == "preinst" && !is_open { 0o755 } else { file.mode };
        root.replace(&path, &file.content, mode).map_err(wrap(&path))?;
    }
    Ok(())
}

/// Removes what [`write_control`] has made.
pub(super) fn remove_control(root: &Root) -> Result<(), Error> {
    let path = CONTROL_DIRECTORY.as_bytes();
    root.remove_tree(path).map_err(|source| {
        let path = root.outside(path);
        Error::from(database::Error::Io { action: "remove", path, source })
    })
}
