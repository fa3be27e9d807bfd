//! A graph as SVG, laid out here: no program is needed, and nothing is fetched.

use std::fmt::Write as _;

use super::layout::{Arrow, Layout, Size, Way, layout};
use super::{Edge, EdgeKind, Graph, Member, Node, NodeKind};
use crate::inspect::markup::{escaped, width};

/// Around everything.
const MARGIN: f64 = 12.0;
/// Within a box, left and right of its text.
const PADDING: f64 = 12.0;
/// From line to line.
const LINE: f64 = 16.0;
/// From line to line of what stands on arrows.
const LABEL_LINE: f64 = 13.0;

/// What every picture needs. In a page it is said once, see [`embedded`].
pub const STYLE: &str = include_str!("graph.css");

/// A picture that stands alone, light or dark as whoever looks at it prefers.
pub fn standalone(graph: &Graph) -> String {
    let style = format!(
        "<style>\n:root{{--paper:#fff}}@media(prefers-color-scheme:dark){{:root{{--paper:#15181c}}}}\n{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"var(--paper)\"/>"
    );
    draw(graph, &style)
}

/// A picture for a page that has [`STYLE`] among its styles.
pub fn embedded(graph: &Graph) -> String {
    draw(graph, "")
}

fn draw(graph: &Graph, style: &str) -> String {
    let sizes: Vec<Size> = graph.nodes.iter().map(size).collect();
    let arrows: Vec<Arrow> = graph.edges.iter().filter_map(|edge| arrow(graph, edge)).collect();
    let Layout { size, boxes, sizes, ways } = layout(&sizes, &arrows);
    let (width, height) = (size.width + 2.0 * MARGIN, size.height + 2.0 * MARGIN);
    let title = escaped(&graph.title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" role=\"img\" aria-label=\"{title}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">\n\
         <title>{title}</title>\n{style}\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7.5\" refY=\"4\" markerWidth=\"7\" \
         markerHeight=\"7\" orient=\"auto\"><path class=\"tip\" d=\"M0 0 8 4 0 8Z\"/></marker></defs>\n\
         <g transform=\"translate({MARGIN} {MARGIN})\">\n"
    );
    let edges = graph.edges.iter().filter(|edge| arrow(graph, edge).is_some());
    for (edge, way) in edges.zip(&ways) {
        draw_edge(&mut svg, edge, way);
    }
    for ((node, size), corner) in graph.nodes.iter().zip(&sizes).zip(&boxes) {
        let _ = writeln!(svg, "<g transform=\"translate({:.1} {:.1})\">", corner.x, corner.y);
        draw_node(&mut svg, node, *size);
        svg.push_str("</g>\n");
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// The arrow of an edge between two boxes.
fn arrow(graph: &Graph, edge: &Edge) -> Option<Arrow> {
    let find = |id: &str| graph.nodes.iter().position(|node| node.id == id);
    let (from, to) = (find(&edge.from)?, find(&edge.to)?);
    let width = edge.labels.iter().map(|label| width(label, 11.0)).fold(0.0, f64::max);
    let height = LABEL_LINE * edge.labels.len() as f64;
    let width = if edge.labels.is_empty() { 0.0 } else { width + 8.0 };
    (from != to).then_some(Arrow { from, to, label: Size { width, height } })
}

fn size(node: &Node) -> Size {
    let lines = node.lines.iter().map(|line| width(line, 11.5));
    let members = node.members.iter().map(|it| {
        width(&it.name, 12.0)
            + width(&it.address, 11.5)
            + 14.0
            + it.host.as_ref().map_or(0.0, |host| width(host, 11.5) + 14.0)
    });
    let text = lines.chain(members).fold(width(&node.title, 14.0), f64::max);
    let rows = node.lines.len() + node.members.len();
    Size {
        width: text + 2.0 * PADDING,
        height: 34.0 + LINE * rows as f64 - if rows == 0 { 4.0 } else { 0.0 },
    }
}

fn draw_edge(svg: &mut String, edge: &Edge, way: &Way) {
    let mut path = String::new();
    for (number, point) in way.points.iter().enumerate() {
        let (x, y) = (point.x, point.y);
        let _ = match number.checked_sub(1).map(|before| way.points[before]) {
            None => write!(path, "M{x:.1} {y:.1}"),
            // Bends lie between pairs, see `Way`.
            Some(before) if number % 2 == 1 => {
                let middle = (before.x + x) / 2.0;
                write!(path, "C{middle:.1} {:.1} {middle:.1} {y:.1} {x:.1} {y:.1}", before.y)
            }
            Some(_) => write!(path, "H{x:.1}"),
        };
    }
    let kind = if edge.kind == EdgeKind::BootsWith { " dashed" } else { "" };
    let _ = writeln!(svg, "<path class=\"edge{kind}\" marker-end=\"url(#tip)\" d=\"{path}\"/>");
    let top = way.label.y - LABEL_LINE * (edge.labels.len() as f64 - 1.0) / 2.0;
    for (number, label) in edge.labels.iter().enumerate() {
        let y = top + LABEL_LINE * number as f64 + 4.0;
        let _ = writeln!(
            svg,
            "<text class=\"on-edge\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            way.label.x,
            escaped(label)
        );
    }
}

fn draw_node(svg: &mut String, node: &Node, size: Size) {
    let kind = match node.kind {
        NodeKind::Definition => "definition",
        NodeKind::Role => "role",
        NodeKind::Machine => "machine",
        NodeKind::Boot => "boot",
        NodeKind::Layer => "layer",
        NodeKind::Artifact => "artifact",
        NodeKind::World => "world",
    };
    let Size { width, height } = size;
    let round = if node.kind == NodeKind::World { height / 2.0 } else { 7.0 };
    let _ = writeln!(
        svg,
        "<rect class=\"node {kind}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{round:.1}\"/>\n\
         <text class=\"name\" x=\"{PADDING}\" y=\"21\">{}</text>",
        escaped(&node.title)
    );
    let mut y = 23.0;
    for Member { name, address, host } in &node.members {
        y += LINE;
        let _ = writeln!(
            svg,
            "<text class=\"guest\" x=\"{PADDING}\" y=\"{y}\">{}<tspan class=\"more\" dx=\"8\">{}</tspan>{}</text>",
            escaped(name),
            escaped(address),
            host.as_ref().map_or(String::new(), |host| {
                format!("<tspan class=\"more\" dx=\"8\">{}</tspan>", escaped(host))
            })
        );
    }
    for line in &node.lines {
        y += LINE;
        let _ = writeln!(
            svg,
            "<text class=\"more\" x=\"{PADDING}\" y=\"{y}\">{}</text>",
            escaped(line)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::graph::Subject;

    #[test]
    fn no_text_becomes_markup() {
        let text = "</text><script>alert(1)</script> & \"é\" قاعدة";
        let mut graph = Graph::new(Subject::Site, text.into());
        let mut node = Node::new("a", NodeKind::Role, text);
        node.lines = vec![text.into()];
        node.members =
            vec![Member { name: text.into(), address: text.into(), host: Some(text.into()) }];
        graph.nodes = vec![node, Node::new("b", NodeKind::World, text)];
        graph.connect("a", "b", EdgeKind::Connects, vec![text.into()]);
        for svg in [standalone(&graph), embedded(&graph)] {
            assert!(!svg.contains("<script") && !svg.contains("& "), "{svg}");
            assert!(svg.contains("قاعدة"));
        }
    }

    #[test]
    fn edges_of_nothing_and_to_themselves_are_not_drawn() {
        let mut graph = Graph::new(Subject::Site, "title".into());
        graph.nodes = vec![Node::new("a", NodeKind::Role, "a")];
        graph.connect("a", "a", EdgeKind::Connects, Vec::new());
        graph.connect("a", "gone", EdgeKind::Connects, Vec::new());
        assert!(!embedded(&graph).contains("class=\"edge"));
    }
}
