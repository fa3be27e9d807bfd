//! What `imgbuild lock --update` would bring.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::SystemTime;

use super::{Newer, Origins, Selection};
use crate::debian::date::Moment;
use crate::debian::repository::{Transport, TransportError};
use crate::lock::{Change, Error, LeftOut, Lock, Update, Wishes, difference, resolve};

/// What the repositories have now.
#[derive(Debug)]
pub struct Available {
    /// The lock that an update would make.
    pub lock: Lock,
    /// How it differs from the one there is.
    pub changes: Vec<Change>,
    /// The images that could not be resolved anew, and what kept them from it.
    pub left_out: Vec<LeftOut>,
}

impl Available {
    /// Resolves everything anew that `lock` has of `wishes`, and adds what the indexes of repositories say of packages
    /// to `origins`. Nothing is written.
    ///
    /// # Errors
    /// No image can be resolved for want of its repositories, or the wishes cannot be fulfilled.
    pub fn ask(
        mut wishes: Vec<Wishes>,
        lock: &Lock,
        transport: &dyn Transport,
        origins: &mut Origins,
        now: SystemTime,
    ) -> Result<Self, Error> {
        wishes.retain(|it| lock.images.contains_key(&it.image));
        let transport = Remembering { transport, known: Mutex::default() };
        // Packages by URL are pinned, so an update leaves them as they are.
        let resolution = resolve(&wishes, &transport, None, Some(lock), &Update::All, now)?;
        for image in &wishes {
            for repository in image.own_repositories() {
                let architecture = &image.debian.architecture;
                let contents = repository.read(&transport, architecture, None, Moment::from(now));
                // What is out of reach was named by the resolution.
                for index in contents.into_iter().flat_map(|contents| contents.indexes) {
                    origins.add_index(&index);
                }
            }
        }
        let changes = difference(lock, &resolution.lock);
        Ok(Self { lock: resolution.lock, changes, left_out: resolution.left_out })
    }

    /// What `selection` would consist of.
    pub fn newer(&self, selection: &Selection, origins: &Origins) -> Newer {
        let out_of_reach = self.left_out.iter().flat_map(|it| it.kept.iter().chain(&it.lost));
        Newer {
            installed: selection.installed(&self.lock, origins).0,
            images: self.lock.images.keys().cloned().collect(),
            out_of_reach: out_of_reach.cloned().collect(),
        }
    }

    /// The roles of `selection` that would change. Those that would leave the lock are none of them: nobody could build
    /// them.
    pub fn changing(&self, selection: &Selection) -> BTreeSet<String> {
        let images = self.changes.iter().map(|change| change.image.as_str());
        let lost = self.left_out.iter().flat_map(|it| &it.lost).map(String::as_str);
        &selection.roles(images) - &selection.roles(lost)
    }
}

/// Gets every file once.
struct Remembering<'a> {
    transport: &'a dyn Transport,
    known: Mutex<HashMap<String, Vec<u8>>>,
}

impl Transport for Remembering<'_> {
    fn get(&self, url: &str, limit_bytes: u64) -> Result<Vec<u8>, TransportError> {
        let lock = || self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(content) = lock().get(url) {
            return Ok(content.clone());
        }
        let content = self.transport.get(url, limit_bytes)?;
        lock().insert(url.to_owned(), content.clone());
        Ok(content)
    }
}
