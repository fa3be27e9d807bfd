//! What the document of a role says of its parameters, secrets and volumes is made from the definition.

use std::fmt::Write as _;
use std::fs;

use imgbuild::definition::{Image, Project, Type};

use crate::root;

const BEGIN: &str =
    "<!-- From the definition; `UPDATE_REFERENCE=1 cargo test --test documentation` renews it. -->";
const END: &str = "<!-- end -->";

#[test]
fn every_role_is_documented_with_what_its_definition_declares() {
    let project = Project::load(root()).unwrap();
    let update = std::env::var_os("UPDATE_REFERENCE").is_some();
    let mut wrong = Vec::new();
    for image in project.roles() {
        let path = format!("docs/roles/{}.md", image.name);
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            wrong.push(format!("{path} is missing"));
            continue;
        };
        let Some((before, rest)) = text.split_once(BEGIN) else {
            wrong.push(format!("{path} has no line {BEGIN}"));
            continue;
        };
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{path}: no {END}"));
        let wanted = format!("{before}{BEGIN}\n\n{}\n{END}{after}", reference(&project, image));
        if text != wanted {
            match update {
                true => fs::write(root().join(&path), wanted).unwrap(),
                false => wrong.push(format!("{path} is not what images/{} declares", image.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nrenew with UPDATE_REFERENCE=1", wrong.join("\n"));
}

/// Tables of what `role` declares, and of the parameters of what it stands on.
fn reference(project: &Project, role: &Image) -> String {
    let mut tables = String::new();
    let stack = project.stack(role.name.as_str()).unwrap();
    // Those of `base`, `node` and its twin are the same for every role, and described once.
    let own = || {
        stack.iter().filter(|image| !["base", "node", "ubuntu-node"].contains(&image.name.as_str()))
    };
    let mut rows = Vec::new();
    for image in own() {
        for (name, parameter) in &image.parameters {
            let default = parameter
                .default
                .as_ref()
                .map_or("none: a site sets it".to_owned(), |value| format!("`{value}`"));
            rows.push([format!("`{name}`"), kind(&parameter.kind), default, parameter.doc.clone()]);
        }
    }
    table(&mut tables, ["parameter", "type", "default", "what"], rows);
    let rows = own().flat_map(|image| &image.secrets).map(|(name, secret)| {
        let file = secret.path.as_str().rsplit('/').next().unwrap_or_default();
        let needed = if secret.required { "yes" } else { "no" };
        [format!("`{name}`"), format!("`{file}`"), needed.to_owned(), secret.doc.clone()]
    });
    table(&mut tables, ["secret", "file", "required", "what"], rows.collect());
    let rows = own().flat_map(|image| &image.states).map(|state| {
        let owner = format!("{}:{}, {:04o}", state.owner, state.group, state.mode.bits());
        [format!("`state-{}`", state.name), format!("`{}`", state.path), owner, state.doc.clone()]
    });
    table(&mut tables, ["volume", "path", "owner, mode", "what"], rows.collect());
    tables
}

fn kind(kind: &Type) -> String {
    match kind {
        Type::List(items) => format!("a list, each {items}"),
        kind => kind.to_string(),
    }
}

/// Adds a table, unless it has no rows.
fn table(text: &mut String, head: [&str; 4], rows: Vec<[String; 4]>) {
    if rows.is_empty() {
        return;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(text, "| {} |\n|---|---|---|---|", head.join(" | "));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
}
