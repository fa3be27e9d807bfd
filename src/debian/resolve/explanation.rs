//! Why wishes contradict each other, in words.
//!
//! ```text
//! mailutils is wanted
//! └─ mailutils 1 needs exim4 (>= 4)
//! postfix is wanted
//! └─ postfix 3 conflicts with exim4 4 (as mail-transport-agent)
//! ```

use std::collections::BTreeMap;

use resolvo::conflict::{ConflictCause, ConflictEdge, ConflictGraph, ConflictNode};
use resolvo::{Interner as _, Requirement};

use super::provider::{Provider, package_id};
use crate::debian::packages::PackageId;

/// More lines than this explain nothing any more.
const MOST_LINES: usize = 60;

/// One statement, and the statements that it leads to.
struct Statement {
    text: String,
    consequences: Vec<Statement>,
}

/// Says what `graph`, a contradiction that the solver found, means.
pub(super) fn explain(provider: &Provider<'_>, graph: &ConflictGraph) -> String {
    let mut explanation = Explanation { provider, edges: edges(graph), told: Vec::new() };
    let mut lines = Vec::new();
    for statement in explanation.wishes(graph.root_node.index()) {
        lines.push(statement.text);
        render(&statement.consequences, "", &mut lines);
    }
    let omitted = lines.len().saturating_sub(MOST_LINES);
    if omitted > 0 {
        lines.truncate(MOST_LINES);
        lines.push(format!("… and {omitted} lines more"));
    }
    lines.join("\n")
}

fn render(statements: &[Statement], indentation: &str, lines: &mut Vec<String>) {
    for (index, statement) in statements.iter().enumerate() {
        let is_last = index + 1 == statements.len();
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push(format!("{indentation}{branch}{}", statement.text));
        render(&statement.consequences, &format!("{indentation}{below}"), lines);
    }
}

/// Where an edge of the graph leads.
type Edge = (ConflictEdge, usize, ConflictNode);

/// The edges that leave each node, in the order of the graph.
fn edges(graph: &ConflictGraph) -> BTreeMap<usize, Vec<Edge>> {
    let mut edges: BTreeMap<usize, Vec<Edge>> = BTreeMap::new();
    for edge in graph.graph.raw_edges() {
        let target = edge.target();
        let leaving = edges.entry(edge.source().index()).or_default();
        leaving.push((edge.weight, target.index(), graph.graph[target]));
    }
    edges
}

struct Explanation<'a> {
    provider: &'a Provider<'a>,
    edges: BTreeMap<usize, Vec<Edge>>,
    /// The nodes that were explained already.
    told: Vec<usize>,
}

impl Explanation<'_> {
    fn wishes(&mut self, root: usize) -> Vec<Statement> {
        let mut statements = Vec::new();
        for (requirement, targets) in self.requirements(root) {
            let text = self.provider.wish(requirement);
            let (words, consequences) = self.options(requirement, &targets);
            statements.push(Statement { text: text + &words, consequences });
        }
        statements
    }

    /// What a node needs, each with the nodes that satisfy it.
    fn requirements(&self, node: usize) -> Vec<(Requirement, Vec<(usize, ConflictNode)>)> {
        let mut requirements: Vec<(Requirement, Vec<(usize, ConflictNode)>)> = Vec::new();
        for (edge, target, node) in self.edges.get(&node).into_iter().flatten() {
            if let ConflictEdge::Requires(requirement) = edge {
                match requirements.iter_mut().find(|known| known.0 == *requirement) {
                    Some(known) => known.1.push((*target, *node)),
                    None => requirements.push((*requirement, vec![(*target, *node)])),
                }
            }
        }
        requirements
    }

    /// Words to put behind a requirement, on who provides it or that nobody does, and what is
    /// wrong with the packages that satisfy it.
    fn options(
        &mut self,
        requirement: Requirement,
        targets: &[(usize, ConflictNode)],
    ) -> (String, Vec<Statement>) {
        let mut statements = Vec::new();
        let mut providers = Vec::new();
        for (target, node) in targets {
            match node {
                ConflictNode::Solvable(solvable) => {
                    let package = package_id(*solvable);
                    if self.provider.is_provider(requirement, package) {
                        providers.push(self.provider.label(package));
                    }
                    statements.extend(self.package(*target, package));
                }
                ConflictNode::UnresolvedDependency => {
                    return (self.provider.instead(requirement), statements);
                }
                ConflictNode::Root | ConflictNode::Excluded(_) => {}
            }
        }
        let words = match providers.as_slice() {
            [] => String::new(),
            providers => format!(", provided by {}", providers.join(" and ")),
        };
        (words, statements)
    }

    /// What a package needs and conflicts with, as far as it takes part in the contradiction.
    fn package(&mut self, node: usize, package: PackageId) -> Vec<Statement> {
        if self.told.contains(&node) {
            return Vec::new();
        }
        self.told.push(node);
        let name = self.provider.label(package);
        let mut statements = Vec::new();
        for (requirement, targets) in self.requirements(node) {
            let text = format!("{name} needs {}", self.provider.describe(requirement));
            let (words, consequences) = self.options(requirement, &targets);
            statements.push(Statement { text: text + &words, consequences });
        }
        for (edge, _, target) in self.edges.get(&node).cloned().unwrap_or_default() {
            let text = match (edge, target) {
                (
                    ConflictEdge::Conflict(ConflictCause::Constrains(set)),
                    ConflictNode::Solvable(other),
                ) => {
                    let other = package_id(other);
                    let reason = self.provider.display_version_set(set).to_string();
                    let reason = match reason == self.provider.name(other) {
                        true => String::new(),
                        false => format!(" (as {reason})"),
                    };
                    format!("{name} conflicts with {}{reason}", self.provider.label(other))
                }
                (ConflictEdge::Conflict(_), ConflictNode::Excluded(reason)) => {
                    format!("{name}: {}", self.provider.display_string(reason))
                }
                (ConflictEdge::Conflict(_), ConflictNode::Solvable(other)) => {
                    let other = self.provider.label(package_id(other));
                    format!("{name} cannot be installed next to {other}")
                }
                _ => continue,
            };
            statements.push(Statement { text, consequences: Vec::new() });
        }
        statements
    }
}
