//! How the definitions of a project build upon each other.

use super::{EdgeKind, Graph, Node, NodeKind, Subject};
use crate::definition::{Image, Project};

/// All definitions of `project`: what extends what, which are roles, what makes disks of them.
pub fn definitions(project: &Project) -> Graph {
    let mut graph =
        Graph::new(Subject::Definitions, "Definitions, and what they build upon".into());
    for image in project.images() {
        let kind = match image {
            Image { role: true, .. } => NodeKind::Role,
            Image { machine: Some(_), .. } => NodeKind::Machine,
            Image { boot: Some(_), .. } => NodeKind::Boot,
            _ => NodeKind::Definition,
        };
        let mut node = Node::new(image.name.as_str(), kind, image.name.as_str());
        node.lines.push(image.version.to_string());
        node.lines.extend(match kind {
            NodeKind::Role => Some(match project.machine_of(image) {
                Some((machine, _)) => format!("template, and disk with {}", machine.name),
                None => "template".to_owned(),
            }),
            NodeKind::Machine => Some("laid on roles for disks".to_owned()),
            NodeKind::Boot => Some("kernel and boot loaders".to_owned()),
            _ => None,
        });
        graph.nodes.push(node);
        if let Some((below, _)) = &image.extends {
            graph.connect(below.as_str(), image.name.as_str(), EdgeKind::Carries, Vec::new());
        }
        if let Some(machine) = &image.machine {
            let (boot, labels) = (machine.boot.0.as_str(), vec!["boots with".to_owned()]);
            graph.connect(image.name.as_str(), boot, EdgeKind::BootsWith, labels);
        }
    }
    graph
}
