//! Pictures of how things hang together, as graphs: definitions on one another, the layers of a role, the
//! roles of a site. A graph is pure data; [`dot`] and [`svg`] write it down.

mod definitions;
pub mod dot;
mod layout;
mod role;
mod site;
pub mod svg;

use schemars::JsonSchema;
use serde::Serialize;

pub use definitions::definitions;
pub use role::role;
pub use site::site;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The definitions of a project, and what they extend.
    Definitions,
    /// The layers of a role, and its artifacts.
    Role,
    /// The roles of a site, and who connects to whom.
    Site,
}

/// Boxes, and arrows between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Graph {
    /// What is drawn.
    pub subject: Subject,
    /// What it shows, in one line.
    pub title: String,
    /// The boxes.
    pub nodes: Vec<Node>,
    /// The arrows.
    pub edges: Vec<Edge>,
}

/// What a box stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// A definition that is only a layer of others.
    Definition,
    /// A role: a definition that artifacts are made of, or the nodes of a site that run it.
    Role,
    /// A machine definition, which is laid on roles to make disks of them.
    Machine,
    /// A boot image.
    Boot,
    /// A layer.
    Layer,
    /// An artifact.
    Artifact,
    /// Everybody outside of a site.
    World,
}

/// A box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Node {
    /// What edges call it. Unique in the graph.
    pub id: String,
    /// What it stands for.
    pub kind: NodeKind,
    /// Its name.
    pub title: String,
    /// More of it, a line each.
    pub lines: Vec<String>,
    /// The guests of a site that it is.
    pub members: Vec<Member>,
}

/// A guest of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Member {
    /// Its host name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// The Proxmox node that it lies on, if the site says so.
    pub host: Option<String>,
}

/// What an arrow means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeKind {
    /// `to` is built upon `from`.
    Carries,
    /// Disks of `from` boot with `to`.
    BootsWith,
    /// `from` connects to `to`.
    Connects,
}

/// An arrow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Edge {
    /// Where it begins: the id of a node.
    pub from: String,
    /// Where it points.
    pub to: String,
    /// What it means.
    pub kind: EdgeKind,
    /// What stands on it, a line each: `http 80`.
    pub labels: Vec<String>,
}

impl Graph {
    fn new(subject: Subject, title: String) -> Self {
        Self { subject, title, nodes: Vec::new(), edges: Vec::new() }
    }

    fn connect(&mut self, from: &str, to: &str, kind: EdgeKind, labels: Vec<String>) {
        self.edges.push(Edge { from: from.to_owned(), to: to.to_owned(), kind, labels });
    }
}

impl Node {
    fn new(id: impl Into<String>, kind: NodeKind, title: impl Into<String>) -> Self {
        let (id, title) = (id.into(), title.into());
        Self { id, kind, title, lines: Vec::new(), members: Vec::new() }
    }
}
