//! The layers of a role, from what lies lowest to its artifacts.

use super::{EdgeKind, Graph, Node, NodeKind, Subject};
use crate::artifact::manifest::Manifest;
use crate::artifact::name::Format;
use crate::inspect::bytes;
use crate::inspect::image::{Image, Layer};

/// The layers of `template`, those that `disk` has besides, and the artifacts that were made of them.
pub fn role(template: &Image, disk: Option<&Image>, artifacts: &[Manifest]) -> Graph {
    let facts = &template.facts;
    let site = facts.site.as_ref().map(|site| format!(" for {site}")).unwrap_or_default();
    let title = format!("Layers of {} {}{site}", facts.role, facts.version);
    let mut graph = Graph::new(Subject::Role, title);
    let top = graph.stack(&template.layers, NodeKind::Layer, "");
    graph.artifact(Format::LxcTemplate, &top, artifacts);
    let Some(disk) = disk else { return graph };
    let is_own = |layer: &&Layer| !template.layers.iter().any(|other| other.name() == layer.name());
    let machine: Vec<Layer> = disk.layers.iter().filter(is_own).cloned().collect();
    let machine = graph.stack(&machine, NodeKind::Machine, "disk ");
    let boot = graph.stack(&disk.boot, NodeKind::Boot, "boot ");
    for below in [top, machine, boot] {
        graph.artifact(Format::Qcow2, &below, artifacts);
    }
    graph
}

impl Graph {
    /// Adds `layers`, each on the one before. Returns the id of the last.
    fn stack(&mut self, layers: &[Layer], kind: NodeKind, prefix: &str) -> Option<String> {
        let mut below: Option<String> = None;
        for layer in layers {
            let mut node = Node::new(format!("{prefix}{}", layer.name()), kind, layer.name());
            node.lines.push(match (layer.digest, layer.size) {
                (Some(digest), Some(size)) => format!("{}  {}", digest.short(), bytes(size)),
                _ => "not built yet".to_owned(),
            });
            if let Some(below) = &below {
                self.connect(below, &node.id, EdgeKind::Carries, Vec::new());
            }
            below = Some(node.id.clone());
            self.nodes.push(node);
        }
        below
    }

    /// Lets the artifact of this format, which is added if it is not there yet, stand on `below`.
    fn artifact(&mut self, format: Format, below: &Option<String>, artifacts: &[Manifest]) {
        let Some(below) = below else { return };
        let (id, title) = match format {
            Format::LxcTemplate => ("(template)", "LXC template"),
            Format::Qcow2 => ("(disk)", "disk, qcow2"),
        };
        if !self.nodes.iter().any(|node| node.id == id) {
            let mut node = Node::new(id, NodeKind::Artifact, title);
            let built = artifacts.iter().find(|it| it.artifact.format == format);
            node.lines.push(match built {
                Some(it) => format!("{}  {}", it.digest.short(), bytes(it.artifact.size)),
                None => "not built yet".to_owned(),
            });
            self.nodes.push(node);
        }
        self.connect(below, id, EdgeKind::Carries, Vec::new());
    }
}
