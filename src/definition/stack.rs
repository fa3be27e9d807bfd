//! What images and overlays say about each other: chains, names unique along them, and values
//! checked against the declarations they are for.

use std::collections::BTreeMap;

use serde_json::Value;

use super::debian::check_names;
use super::document::{Entries, parse_key};
use super::error::{Error, Problem, Result};
use super::image::Image;
use super::name::{ImageName, ParameterName};
use super::parameter::Parameter;
use super::place::Place;
use super::suggest::did_you_mean;
use super::upstream::check_targets;

/// A value and where it was given.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The value, of the type that the parameter declares.
    pub value: Value,
    /// Where it stands.
    pub place: Place,
}

/// Values by the name of their parameter.
pub(super) type Settings = BTreeMap<ParameterName, Setting>;

/// The way from `start` along `parent` to its end, `start` first. An error is the circle that the
/// way ends in, its first name repeated at the end.
pub(super) fn chain<'a, K: Ord + ToString>(
    start: &'a K,
    parent: impl Fn(&'a K) -> Option<&'a K>,
) -> Result<Vec<&'a K>, Vec<String>> {
    let mut chain = vec![start];
    while let Some(next) = chain.last().and_then(|last| parent(last)) {
        if let Some(index) = chain.iter().position(|seen| *seen == next) {
            return Err(chain[index..].iter().copied().chain([next]).map(K::to_string).collect());
        }
        chain.push(next);
    }
    Ok(chain)
}

/// Checks that everything `extends` names exists and that no chain goes in a circle. Each circle
/// is reported once, at the first of its names in the alphabet.
pub(super) fn check_chains<'a, K: Ord + ToString + std::fmt::Display + 'a>(
    parents: &'a BTreeMap<&'a K, Option<&'a (K, Place)>>,
    unknown: impl Fn(String) -> Problem,
) -> Vec<Error> {
    let mut errors = Vec::new();
    for (name, extends) in parents {
        let Some((parent, place)) = extends else { continue };
        let names: Vec<String> = parents.keys().map(ToString::to_string).collect();
        if !parents.contains_key(parent) {
            let parent = parent.to_string();
            let help = did_you_mean(&parent, names.iter().map(String::as_str));
            errors.push(place.error_with_help(unknown(parent), help));
            continue;
        }
        let parent_of = |name: &K| parents.get(name).copied().flatten().map(|(parent, _)| parent);
        if let Err(chain) = chain(*name, parent_of) {
            let name = name.to_string();
            if chain.iter().min() == Some(&name) {
                let help = Some("one of them has to stand on something else".to_owned());
                errors.push(place.error_with_help(Problem::Cycle { chain }, help));
            }
        }
    }
    errors
}

/// Checks that nothing the last image of `stack` declares is declared below it already.
pub(super) fn check_unique(stack: &[&Image]) -> Result<()> {
    let Some((image, below)) = stack.split_last() else { return Ok(()) };
    let duplicate = |what: String, place: &Place, other: &Place| {
        let taken = format!("declared at {other}");
        let help =
            Some("give it another name: everything above both would see two of them".to_owned());
        Err(place.error_with_help(Problem::Duplicate { what, taken }, help))
    };
    for lower in below {
        for (name, parameter) in &image.parameters {
            if let Some(other) = lower.parameters.get(name) {
                return duplicate(format!("parameter `{name}`"), &parameter.place, &other.place);
            }
        }
        for (name, secret) in &image.secrets {
            if let Some(other) = lower.secrets.get(name) {
                return duplicate(format!("secret `{name}`"), &secret.place, &other.place);
            }
        }
    }
    check_names(stack.iter().flat_map(|image| image.all_repositories()))?;
    for lower in below {
        for (name, source) in &image.sources {
            if let Some(other) = lower.sources.get(name) {
                return duplicate(format!("source `{name}`"), &source.place, &other.place);
            }
        }
    }
    check_targets(stack)?;
    let below = below.iter().flat_map(|lower| &lower.states);
    for (index, state) in image.states.iter().enumerate() {
        let others = below.clone().chain(&image.states[..index]);
        if let Some(other) = others.clone().find(|other| other.path == state.path) {
            return duplicate(format!("state `{}`", state.path), &state.place, &other.place);
        }
        if let Some(other) = others.clone().find(|other| other.name == state.name) {
            return duplicate(format!("volume `{}`", state.name), &state.place, &other.place);
        }
    }
    Ok(())
}

/// The declaration of `name` in `stack`, and the image that has it.
pub(super) fn declaration<'a>(
    stack: &[&'a Image],
    name: &str,
) -> Option<(&'a Image, &'a Parameter)> {
    stack.iter().find_map(|image| Some((*image, image.parameters.get(name)?)))
}

/// Checks `entries`, values for parameters visible in `stack`. Whatever is wrong is added to
/// `errors`, so that one run shows all of it. `all` images serve to explain what is not visible.
pub(super) fn settings(
    stack: &[&Image],
    entries: &Entries,
    all: &BTreeMap<ImageName, Image>,
    errors: &mut Vec<Error>,
) -> Settings {
    let mut settings = Settings::new();
    for (key, (place, item)) in entries {
        let setting = (|| {
            let name: ParameterName = parse_key(key, place, &item.path)?;
            let Some((_, parameter)) = declaration(stack, key) else {
                return Err(undeclared(stack, key, place, all));
            };
            let value = parameter.kind.check(item);
            let value =
                value.map_err(|it| it.or_help(|| format!("`{name}`: {}", parameter.doc)))?;
            Ok((name, Setting { value, place: item.place.clone() }))
        })();
        match setting {
            Ok((name, setting)) => drop(settings.insert(name, setting)),
            Err(error) => errors.push(error),
        }
    }
    settings
}

fn undeclared(
    stack: &[&Image],
    name: &str,
    place: &Place,
    all: &BTreeMap<ImageName, Image>,
) -> Error {
    let declared =
        |image: &Image| Some((image.name.clone(), image.parameters.get(name)?.place.clone()));
    let names = stack.iter().flat_map(|image| image.parameters.keys().map(ParameterName::as_str));
    let help = match all.values().find_map(declared) {
        Some((image, place)) => {
            Some(format!("{place} declares it; only `{image}` and what stands on it can set it"))
        }
        None => did_you_mean(name, names.clone()),
    };
    let help = help.or_else(|| {
        let names: Vec<&str> = names.collect();
        (!names.is_empty()).then(|| format!("declared there: {}", names.join(", ")))
    });
    let (name, stack) = (name.to_owned(), stack_text(stack));
    place.error_with_help(Problem::UndeclaredParameter { name, stack }, help)
}

/// `base <- node <- haproxy`
pub(super) fn stack_text(stack: &[&Image]) -> String {
    let names: Vec<&str> = stack.iter().map(|image| image.name.as_str()).collect();
    names.join(" <- ")
}

/// The images of `name`'s stack, root first. The chains must have been checked.
pub(super) fn stack<'a>(
    images: &'a BTreeMap<ImageName, Image>,
    name: &'a ImageName,
) -> Vec<&'a Image> {
    let parent = |name: &ImageName| Some(&images.get(name)?.extends.as_ref()?.0);
    let names = chain(name, parent).unwrap_or_default();
    names.into_iter().rev().filter_map(|name| images.get(name)).collect()
}
