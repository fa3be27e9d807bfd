//! Storages and what is on them.

use serde::Deserialize;

use super::client::Client;
use super::error::{Error, Method, Reason};
use super::json;
use super::names::{NodeName, StorageName, Vmid, VolumeId};
use super::request::{Parameters, Path};
use super::task::Upid;

/// What a storage may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Disk images to import, `import`. On directories and their like.
    Import,
    /// Templates of containers, `vztmpl`.
    Template,
    /// Disks of machines, `images`.
    Images,
    /// Volumes of containers, `rootdir`.
    Root,
}

impl Content {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Template => "vztmpl",
            Self::Images => "images",
            Self::Root => "rootdir",
        }
    }
}

/// A storage as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Its name.
    pub name: StorageName,
    /// `dir`, `lvmthin`, `zfspool`, …
    pub kind: String,
    /// What it may be used for, by Proxmox's names.
    pub content: Vec<String>,
    /// Whether it is there at the moment.
    pub active: bool,
    /// Whether all nodes see the same.
    pub shared: bool,
    /// Free bytes, where that is known.
    pub free_bytes: Option<u64>,
    /// All bytes, where that is known.
    pub total_bytes: Option<u64>,
}

impl Storage {
    /// Whether it may be used for `content`.
    pub fn takes(&self, content: Content) -> bool {
        self.content.iter().any(|name| name == content.name())
    }
}

/// A volume in the list of a storage.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredVolume {
    /// Which.
    #[serde(rename = "volid")]
    pub id: VolumeId,
    /// `qcow2`, `raw`, `tzst`, …
    #[serde(default)]
    pub format: String,
    /// Its size in bytes: of an image the virtual size, of a file the length.
    #[serde(default, rename = "size", deserialize_with = "json::number")]
    pub size_bytes: Option<u64>,
    /// When it was made, in seconds since 1970.
    #[serde(default, rename = "ctime", deserialize_with = "json::number")]
    pub made: Option<u64>,
    /// The guest whose it is.
    #[serde(default, deserialize_with = "json::some_vmid")]
    pub vmid: Option<Vmid>,
}

#[derive(Deserialize)]
struct Item {
    storage: Option<StorageName>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    content: String,
    #[serde(default, deserialize_with = "json::flag")]
    active: bool,
    #[serde(default, deserialize_with = "json::flag")]
    shared: bool,
    #[serde(default, deserialize_with = "json::number")]
    avail: Option<u64>,
    #[serde(default, deserialize_with = "json::number")]
    total: Option<u64>,
}

impl Item {
    fn storage(self, name: StorageName) -> Storage {
        Storage {
            name,
            kind: self.kind,
            content: self.content.split(',').map(|text| text.trim().to_owned()).collect(),
            active: self.active,
            shared: self.shared,
            free_bytes: self.avail,
            total_bytes: self.total,
        }
    }
}

impl Client {
    /// The storages that `node` has enabled, those for `content` or all. Storages on which the token has
    /// neither `Datastore.Audit` nor `Datastore.AllocateSpace` are left out without a word.
    /// `GET /nodes/{node}/storage?enabled=1`.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub fn storages(
        &self,
        node: &NodeName,
        content: Option<Content>,
    ) -> Result<Vec<Storage>, Error> {
        let path = Path::new(["nodes", node.as_str(), "storage"]);
        let parameters = Parameters::new()
            .with_flag("enabled", true)
            .with_some("content", content.map(Content::name));
        let items: Vec<Item> = self.get(&path, parameters)?;
        let storage = |mut item: Item| {
            let name = item.storage.take()?;
            Some(item.storage(name))
        };
        Ok(items.into_iter().filter_map(storage).collect())
    }

    /// A storage as `node` sees it. `GET /nodes/{node}/storage/{storage}/status`.
    ///
    /// # Errors
    ///
    /// [`Reason::NotFound`]; [`Reason::Forbidden`] without `Datastore.Audit` or `Datastore.AllocateSpace`.
    pub fn storage(&self, node: &NodeName, storage: &StorageName) -> Result<Storage, Error> {
        let path = path(node, storage).and("status");
        let item: Item = self.get(&path, Parameters::new())?;
        Ok(item.storage(storage.clone()))
    }

    /// What a storage has of `content`. `GET /nodes/{node}/storage/{storage}/content`.
    ///
    /// # Errors
    ///
    /// As [`Client::storage`].
    pub fn content(
        &self,
        node: &NodeName,
        storage: &StorageName,
        content: Content,
    ) -> Result<Vec<StoredVolume>, Error> {
        let parameters = Parameters::new().with("content", content.name());
        self.get(&path(node, storage).and("content"), parameters)
    }

    /// Removes an uploaded file, and nothing else: images to import and templates. Guests that were made of
    /// it have copies. `DELETE /nodes/{node}/storage/{storage}/content/{volume}`, which needs
    /// `Datastore.Allocate`.
    ///
    /// # Errors
    ///
    /// [`Reason::Parameters`] for any other volume, without asking; [`Reason::NotFound`].
    pub fn delete_artifact(
        &self,
        node: &NodeName,
        volume: &VolumeId,
    ) -> Result<Option<Upid>, Error> {
        let path = path(node, volume.storage()).and("content").and(&volume.to_string());
        let file = ["import/", "vztmpl/"].iter().any(|kind| volume.name().starts_with(kind));
        if !file {
            let message = format!("`{volume}` is no uploaded file, and only those are removed");
            let reason = Reason::Parameters(std::collections::BTreeMap::new());
            return Err(self.error(Method::Delete, &path, reason, message));
        }
        self.change(Method::Delete, &path, Parameters::new())
    }
}

/// The path of a storage on a node.
pub(super) fn path(node: &NodeName, storage: &StorageName) -> Path {
    Path::new(["nodes", node.as_str(), "storage", storage.as_str()])
}
