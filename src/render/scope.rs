//! What a path of a template means at one point of it.
//!
//! The rules are those of `handlebars` (`context.rs`, `parse_json_visitor`): a block parameter of
//! any enclosing block comes first; otherwise a path starts at `this` of the innermost `each` or
//! `with`, `../` goes one of them outward, and `@root/` goes to the outermost.

use std::collections::BTreeSet;

use crate::definition::did_you_mean;

use super::error::TemplateProblem;
use super::shape::{Shape, Sight};

/// A block that changes what `this` is.
pub(super) struct Frame {
    this: Shape,
    /// Block parameters: `{{#each nodes as |node index|}}`.
    names: Vec<(String, Shape)>,
    /// Whether `@index`, `@first` and `@last` are in sight.
    pub(super) indexed: bool,
}

impl Frame {
    pub(super) fn each(items: &Shape, names: &[&str]) -> Self {
        let shapes = [items.clone(), Shape::Number];
        let names = names.iter().map(|name| (*name).to_owned()).zip(shapes).collect();
        Self { this: items.clone(), names, indexed: true }
    }

    /// `indexed`: `with` passes on the `@index` of the block around it.
    pub(super) fn with(this: Shape, names: &[&str], indexed: bool) -> Self {
        let names = names.iter().map(|name| ((*name).to_owned(), this.clone())).collect();
        Self { this, names, indexed }
    }
}

/// Everything in sight at one point of a template.
pub(super) struct Scope<'a> {
    sight: &'a Sight,
    /// From the whole template inward; never empty.
    pub(super) frames: Vec<Frame>,
    /// The names at the root that were resolved.
    pub(super) used: BTreeSet<String>,
}

/// A problem and its remedy, place still unknown.
type Failure = (TemplateProblem, Option<String>);

/// A path taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts<'a> {
    from_root: bool,
    local: bool,
    up: usize,
    /// The names, without `this`, which means nothing between others.
    names: Vec<&'a str>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(sight: &'a Sight) -> Self {
        let frame = Frame { this: sight.root.clone(), names: Vec::new(), indexed: false };
        Self { sight, frames: vec![frame], used: BTreeSet::new() }
    }

    /// The type of the value at `path`.
    pub(super) fn resolve(&mut self, path: &str) -> Result<Shape, Failure> {
        let parts = split(path);
        if parts.local {
            return self.local(path, &parts);
        }
        let first = parts.names.first().copied().unwrap_or_default();
        let mut names = parts.names.as_slice();
        let start = match self.block_parameter(first).filter(|_| !parts.from_root) {
            Some(shape) => {
                names = &names[1..];
                shape
            }
            None if parts.from_root || parts.up + 1 == self.frames.len() => {
                self.used.extend(names.first().map(|name| (*name).to_owned()));
                &self.sight.root
            }
            None => &self.outward(path, parts.up)?.this,
        };
        let mut shape = start;
        for (index, name) in names.iter().enumerate() {
            let done = &parts.names[..parts.names.len() - names.len() + index];
            shape = self.step(shape, name, &done.join("."))?;
        }
        Ok(shape.clone())
    }

    fn outward(&self, path: &str, levels: usize) -> Result<&Frame, Failure> {
        let index = self.frames.len().checked_sub(levels + 1);
        index.and_then(|index| self.frames.get(index)).ok_or_else(|| {
            let help = "only {{#each}} and {{#with}} have an outside; {{#if}} has not";
            (TemplateProblem::Undeclared(path.to_owned()), Some(help.to_owned()))
        })
    }

    fn block_parameter(&self, name: &str) -> Option<&Shape> {
        let mut names = self.frames.iter().rev().flat_map(|frame| &frame.names);
        names.find(|(known, _)| known == name).map(|(_, shape)| shape)
    }

    /// `@index` and its like.
    fn local(&self, path: &str, parts: &Parts<'_>) -> Result<Shape, Failure> {
        let indexed = self.outward(path, parts.up)?.indexed;
        match parts.names.as_slice() {
            ["index"] if indexed => Ok(Shape::Number),
            ["first" | "last"] if indexed => Ok(Shape::Boolean),
            _ => {
                let help = "@index, @first and @last are known inside {{#each}}, nothing else";
                Err((TemplateProblem::Undeclared(path.to_owned()), Some(help.to_owned())))
            }
        }
    }

    fn step<'s>(&'s self, shape: &'s Shape, name: &str, done: &str) -> Result<&'s Shape, Failure> {
        let path = if done.is_empty() { "this" } else { done };
        match shape {
            Shape::Record(fields) => match fields.get(name) {
                Some(field) => Ok(field),
                None if *shape == self.sight.root => {
                    Err(self.undeclared(name, fields.keys().map(String::as_str)))
                }
                None => Err(self.no_field(path, name, fields.keys().map(String::as_str))),
            },
            Shape::List(items) if name.parse::<usize>().is_ok() => Ok(items),
            other => {
                let help = match other {
                    Shape::List(_) => Some("use {{#each}} to get at its elements".to_owned()),
                    _ => None,
                };
                let (path, part, what) = (path.to_owned(), name.to_owned(), other.word());
                Err((TemplateProblem::NoPart { path, what, part }, help))
            }
        }
    }

    fn no_field<'s>(
        &self,
        record: &str,
        field: &str,
        fields: impl Iterator<Item = &'s str> + Clone,
    ) -> Failure {
        let record = record.to_owned();
        let help = did_you_mean(field, fields.clone()).unwrap_or_else(|| {
            let outside = self.frames.iter().rev().skip(1).any(|frame| match &frame.this {
                Shape::Record(fields) => fields.contains_key(field),
                _ => false,
            });
            match (outside, fields.collect::<Vec<_>>().join(", ")) {
                (true, _) => format!("the block around this one has it: `../{field}`"),
                (false, fields) if fields.is_empty() => "it has no fields".to_owned(),
                (false, fields) => format!("fields: {fields}"),
            }
        });
        (TemplateProblem::NoField { record, field: field.to_owned() }, Some(help))
    }

    /// The error that the whole project, or at least this image, does not know `name`.
    fn undeclared<'s>(&self, name: &str, fields: impl Iterator<Item = &'s str>) -> Failure {
        let guess = did_you_mean(name, fields);
        let declared = |place: &dyn std::fmt::Display| format!(" ({place} declares it)");
        let help = match (self.sight.elsewhere.get(name), guess) {
            (Some(place), _) => format!(
                "{place} declares it, but {} does not stand on that image",
                self.sight.definition
            ),
            (None, Some(guess)) => {
                let name = guess.split('`').nth(1).unwrap_or_default();
                let place = self.sight.declared.get(name).map(|place| declared(place));
                format!("{guess}{}", place.unwrap_or_default())
            }
            (None, None) => format!("declare it: [parameters.{name}] in {}", self.sight.definition),
        };
        (TemplateProblem::Undeclared(name.to_owned()), Some(help))
    }
}

/// Takes a path apart, by the rule `path_inline` of the grammar of `handlebars`.
fn split(path: &str) -> Parts<'_> {
    let mut parts = Parts::default();
    let mut rest = path;
    for prefix in ["./", "this/", "this."] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    if let Some(below) = rest.strip_prefix("@root").and_then(|rest| rest.strip_prefix(['.', '/'])) {
        parts.from_root = true;
        rest = below;
    }
    if let Some(below) = rest.strip_prefix('@') {
        parts.local = true;
        rest = below;
    }
    while let Some(below) = rest.strip_prefix("../").or_else(|| rest.strip_prefix("...")) {
        parts.up += 1;
        rest = below;
    }
    while !rest.is_empty() {
        let (name, below) = match rest.strip_prefix('[') {
            Some(raw) => raw.split_once(']').unwrap_or((raw, "")),
            None => rest.split_at(rest.find(['.', '/']).unwrap_or(rest.len())),
        };
        if name != "this" {
            parts.names.push(name);
        }
        rest = below.strip_prefix(['.', '/']).unwrap_or(below);
    }
    parts
}
