//! A graph in the language of Graphviz, <https://graphviz.org/doc/info/lang.html>.

use std::fmt::Write as _;

use super::{Edge, EdgeKind, Graph, Node, NodeKind};

/// `graph` as DOT. A box with guests becomes a cluster of them.
pub fn dot(graph: &Graph) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line(&format!("digraph {} {{", quoted(&graph.title)));
    line("  rankdir=LR; compound=true; fontname=\"sans-serif\"; fontsize=11;");
    line(
        "  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\", fontsize=11];",
    );
    line("  edge [fontname=\"sans-serif\", fontsize=9];");
    for (number, node) in graph.nodes.iter().enumerate() {
        line(&match node.members.is_empty() {
            true => format!("  {} [label={}{}];", quoted(&node.id), label(node), style(node.kind)),
            false => cluster(number, node),
        });
    }
    for edge in &graph.edges {
        line(&arrow(graph, edge));
    }
    line("}");
    text
}

/// A role with its guests.
fn cluster(number: usize, node: &Node) -> String {
    let mut text = format!("  subgraph cluster_{number} {{\n    label={};\n", label(node));
    for member in &node.members {
        let host = member.host.as_ref().map(|host| format!("\n{host}")).unwrap_or_default();
        let label = format!("{}\n{}{host}", member.name, member.address);
        let _ = writeln!(
            text,
            "    {} [label={}];",
            quoted(&guest(node, &member.name)),
            quoted(&label)
        );
    }
    text.push_str("  }");
    text
}

/// The id of a guest: `haproxy/lb1`.
fn guest(node: &Node, name: &str) -> String {
    format!("{}/{name}", node.id)
}

fn arrow(graph: &Graph, edge: &Edge) -> String {
    // An edge of a cluster goes from or to one of its nodes, and is cut at its border.
    let end = |id: &str, attribute: &str| -> (String, String) {
        let found = graph.nodes.iter().enumerate().find(|(_, node)| node.id == id);
        match found.and_then(|(number, node)| Some((number, node, node.members.first()?))) {
            Some((number, node, member)) => {
                (quoted(&guest(node, &member.name)), format!(", {attribute}=cluster_{number}"))
            }
            None => (quoted(id), String::new()),
        }
    };
    let ((from, tail), (to, head)) = (end(&edge.from, "ltail"), end(&edge.to, "lhead"));
    let label = quoted(&edge.labels.join("\n"));
    let style = if edge.kind == EdgeKind::BootsWith { ", style=dashed" } else { "" };
    format!("  {from} -> {to} [label={label}{tail}{head}{style}];")
}

fn label(node: &Node) -> String {
    let lines: Vec<&str> =
        [node.title.as_str()].into_iter().chain(node.lines.iter().map(String::as_str)).collect();
    quoted(&lines.join("\n"))
}

fn style(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Role => ", fillcolor=\"#dbe7f5\"",
        NodeKind::Artifact => ", fillcolor=\"#dcefe3\"",
        NodeKind::Machine | NodeKind::Boot => ", fillcolor=\"#f3e8d6\"",
        NodeKind::World => ", shape=ellipse",
        NodeKind::Definition | NodeKind::Layer => "",
    }
}

/// A string of DOT. Graphviz takes what follows a backslash in a label for an escape (`\N` is the name of the
/// node), so backslashes are doubled; a line feed becomes `\n`. Other control characters are left out: no
/// name has any, and they are not allowed in the SVG that Graphviz would make.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            character if character.is_control() => {}
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::graph::{Member, Subject};

    #[test]
    fn nothing_ends_a_string_or_begins_an_escape() {
        for (text, expected) in [
            ("haproxy", r#""haproxy""#),
            (r#"a"b"#, r#""a\"b""#),
            (r"a\", r#""a\\""#),
            ("a\nb\r\u{7}", r#""a\nb""#),
            ("<b>; // é ق ñoor", "\"<b>; // é ق ñoor\""),
        ] {
            assert_eq!(quoted(text), expected, "{text:?}");
        }
    }

    /// A graph with every kind of text in every place.
    fn nasty() -> Graph {
        let text = "a\"];\nb -> c [label=\"\\\" é ق <i>&amp;";
        let member = Member { name: text.into(), address: "::1".into(), host: Some(text.into()) };
        let mut one = Node::new("one", NodeKind::Role, text);
        one.members = vec![member.clone(), Member { name: "other".into(), ..member }];
        let mut two = Node::new(text, NodeKind::World, text);
        two.lines = vec![text.into()];
        let mut graph = Graph::new(Subject::Site, text.into());
        graph.nodes = vec![one, two];
        graph.connect("one", text, EdgeKind::Connects, vec![text.into()]);
        graph
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
    fn graphviz_takes_it() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut command = Command::new("dot");
        let command = command.arg("-Tplain").stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut child) = command.stderr(Stdio::piped()).spawn() else {
            eprintln!("skipped: there is no Graphviz");
            return;
        };
        child.stdin.take().unwrap().write_all(dot(&nasty()).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let plain = String::from_utf8(output.stdout).unwrap();
        let count = |word: &str| plain.lines().filter(|line| line.starts_with(word)).count();
        assert_eq!((count("node "), count("edge ")), (3, 1), "{plain}");
    }
}
