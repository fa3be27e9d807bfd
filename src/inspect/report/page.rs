//! The report as one HTML page that needs nothing else: no network, no script, no file beside it.

use handlebars::{
    Context, Handlebars, Helper, HelperDef, JsonRender, RenderContext, RenderError, ScopedJson,
    TemplateError,
};
use serde::Serialize;
use serde_json::Value;

use super::{Report, RoleReport, SiteReport, treemap};
use crate::inspect::{Error, bytes, graph};

/// Rows of a difference that are shown before the rest is only counted, and lines of a file.
const SHOWN: usize = 200;

/// A treemap for a wide window, and one for a telephone.
const WIDE: (f64, f64) = (960.0, 420.0);
const NARROW: (f64, f64) = (360.0, 560.0);

/// What the templates see.
#[derive(Serialize)]
struct Page<'a> {
    title: String,
    style: &'static str,
    graph_style: &'static str,
    site: Option<&'a SiteReport>,
    graph: Option<String>,
    /// The level of the headings within a role.
    level: u8,
    roles: Vec<Role<'a>>,
}

/// A role, with its pictures.
#[derive(Serialize)]
struct Role<'a> {
    #[serde(flatten)]
    role: &'a RoleReport,
    wide: Option<String>,
    narrow: Option<String>,
}

impl<'a> Role<'a> {
    fn new(role: &'a RoleReport) -> Self {
        let draw = |(width, height): (f64, f64)| {
            role.usage.as_ref().map(|usage| treemap::draw(usage, width, height))
        };
        Self { role, wide: draw(WIDE), narrow: draw(NARROW) }
    }
}

/// The page that says what `report` has. The same report is always the same page.
///
/// # Errors
/// [`Error::Page`]: a template of this program does not fit `report`.
pub fn page(report: &Report) -> Result<String, Error> {
    let title = match (&report.site, report.roles.first()) {
        (Some(site), _) => site.name.clone(),
        (None, Some(role)) => format!("{} {}", role.role, role.version),
        (None, None) => String::new(),
    };
    let page = Page {
        title,
        style: include_str!("page.css"),
        graph_style: graph::svg::STYLE,
        site: report.site.as_ref(),
        graph: report.site.as_ref().map(|site| graph::svg::embedded(&site.graph)),
        level: if report.site.is_some() { 3 } else { 2 },
        roles: report.roles.iter().map(Role::new).collect(),
    };
    let renderer = renderer().map_err(|error| Error::Page(Box::new(error.into())))?;
    renderer.render("page", &page).map_err(|error| Error::Page(Box::new(error)))
}

fn renderer() -> Result<Handlebars<'static>, TemplateError> {
    let mut renderer = Handlebars::new();
    renderer.set_strict_mode(true);
    for (name, text) in [
        ("page", include_str!("page.hbs")),
        ("site", include_str!("site.hbs")),
        ("role", include_str!("role.hbs")),
        ("difference", include_str!("difference.hbs")),
    ] {
        renderer.register_template_string(name, text)?;
    }
    let helpers: [(&str, Function); 10] = [
        ("bytes", |values| values[0].as_u64().map(bytes).unwrap_or_default().into()),
        ("percent", |values| format!("{:.1} %", 100.0 * number(values[0])).into()),
        ("part", |values| format!("{:.1} %", 100.0 * number(values[0]) / number(values[1])).into()),
        ("short", |values| short(values[0]).into()),
        ("value", |values| value(values[0]).into()),
        ("first", first),
        ("rest", |values| length(values[0]).saturating_sub(SHOWN).into()),
        ("lines", lines),
        ("prose", |values| prose(values[0].as_str().unwrap_or_default())),
        ("counted", |values| counted(length(values[0]), values[1]).into()),
    ];
    for (name, function) in helpers {
        renderer.register_helper(name, Box::new(Helping(function)));
    }
    Ok(renderer)
}

/// What a helper makes of its arguments. It has as many as the templates give it.
type Function = fn(&[&Value]) -> Value;

/// A helper that is a function of its arguments.
struct Helping(Function);

impl HelperDef for Helping {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let values: Vec<&Value> = helper.params().iter().map(|param| param.value()).collect();
        Ok(ScopedJson::Derived(self.0(&values)))
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn length(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Number(count) => count.as_u64().unwrap_or_default() as usize,
        _ => 0,
    }
}

/// A value as TOML would have it, more or less: people read it.
fn value(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "[]".to_owned(),
        Value::Array(items) => items.iter().map(self::value).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) => {
            let fields =
                fields.iter().map(|(name, value)| format!("{name}: {}", self::value(value)));
            fields.collect::<Vec<_>>().join(", ")
        }
        other => other.render(),
    }
}

/// The beginning of a digest.
fn short(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().take(12).collect()
}

/// The items of a list that are shown.
fn first(values: &[&Value]) -> Value {
    match values[0] {
        Value::Array(items) => items.iter().take(SHOWN).cloned().collect(),
        _ => Value::Array(Vec::new()),
    }
}

/// The lines of a unified difference that are shown, each with a class.
fn lines(values: &[&Value]) -> Value {
    let text = values[0].as_str().unwrap_or_default();
    let line = |line: &str| {
        let class = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] | [b'@', ..] => "head",
            [b'+', ..] => "new",
            [b'-', ..] => "gone",
            _ => "same",
        };
        serde_json::json!({ "class": class, "text": line })
    };
    text.lines().take(SHOWN).map(line).collect()
}

/// A message in pieces: what stands between backticks is code.
fn prose(text: &str) -> Value {
    let piece = |(number, text): (usize, &str)| serde_json::json!({ "code": number % 2 == 1, "text": text });
    text.split('`').enumerate().map(piece).collect()
}

/// `1 package`, `2 packages`.
fn counted(count: usize, what: &Value) -> String {
    let what = what.as_str().unwrap_or_default();
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
