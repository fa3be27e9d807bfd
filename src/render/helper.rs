//! The helpers that templates may call.
//!
//! | helper | result |
//! | --- | --- |
//! | `{{#if VALUE}}…{{else}}…{{/if}}`, `{{#unless VALUE}}` | false, 0, empty text and empty lists count as no |
//! | `{{#each LIST}}…{{else}}…{{/each}}` | `this`, its fields, `@index` (from 0), `@first`, `@last` |
//! | `{{#with RECORD}}…{{/with}}` | the fields of the record |
//! | `(eq A B)`, `(ne A B)` | whether two values of one type are the same; a text that a parameter's `values` exclude is an error |
//! | `(lt A B)`, `(lte A B)`, `(gt A B)`, `(gte A B)` | how two numbers compare |
//! | `(and A B…)`, `(or A B…)`, `(not A)` | as for `if` |
//! | `(len LIST)` | the number of elements |
//! | `(lookup LIST N)` | element `N`, from 0; an error if there is none |
//! | `{{join LIST ", "}}`, `{{join LIST ", " "FIELD"}}` | the elements, or one field of each, with text between them |
//! | `{{json VALUE}}` | the value as JSON on one line: quoted text, a list, a record |

use handlebars::{
    Context, Handlebars, Helper, HelperDef, JsonRender, RenderContext, RenderError,
    RenderErrorReason, ScopedJson,
};
use serde_json::Value;

use super::shape::Shape;

/// Helpers that return a value, with their usage.
const FUNCTIONS: [(&str, &str); 13] = [
    ("and", "(and A B …)"),
    ("eq", "(eq A B), both of one type"),
    ("gt", "(gt A B), two numbers"),
    ("gte", "(gte A B), two numbers"),
    ("join", "{{join LIST \", \"}} for plain elements, {{join LIST \", \" \"FIELD\"}} for records"),
    ("json", "{{json VALUE}}"),
    ("len", "(len LIST)"),
    ("lookup", "(lookup LIST NUMBER)"),
    ("lt", "(lt A B), two numbers"),
    ("lte", "(lte A B), two numbers"),
    ("ne", "(ne A B), both of one type"),
    ("not", "(not A)"),
    ("or", "(or A B …)"),
];

/// Helpers that enclose text, with their usage.
const BLOCKS: [(&str, &str); 4] = [
    ("each", "{{#each LIST}}…{{/each}}"),
    ("if", "{{#if VALUE}}…{{/if}}"),
    ("unless", "{{#unless VALUE}}…{{/unless}}"),
    ("with", "{{#with RECORD}}…{{/with}}"),
];

/// An argument of a helper: its type, and its value if it is written out in the template.
pub(super) struct Argument<'a> {
    pub(super) shape: Shape,
    pub(super) literal: Option<&'a Value>,
}

fn find(table: &[(&'static str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == name).map(|(_, usage)| *usage)
}

/// How the helper `name`, which returns a value, is used.
pub(super) fn function(name: &str) -> Option<&'static str> {
    find(&FUNCTIONS, name)
}

/// How the helper `name`, which encloses text, is used.
pub(super) fn block(name: &str) -> Option<&'static str> {
    find(&BLOCKS, name)
}

/// The names of all helpers.
pub(super) fn names() -> impl Iterator<Item = &'static str> + Clone {
    FUNCTIONS.iter().chain(&BLOCKS).map(|(name, _)| *name)
}

/// The type that the helper `name` returns for `arguments`; none if it does not take them.
pub(super) fn result(name: &str, arguments: &[Argument<'_>]) -> Option<Shape> {
    let shapes: Vec<&Shape> = arguments.iter().map(|argument| &argument.shape).collect();
    match (name, shapes.as_slice()) {
        // `eq` of a number and text would never hold, whatever the values.
        ("eq" | "ne", [left, right]) if left.is_text() && right.is_text() => Some(Shape::Boolean),
        ("eq" | "ne", [left, right]) if left == right && left.is_scalar() => Some(Shape::Boolean),
        ("lt" | "lte" | "gt" | "gte", [Shape::Number, Shape::Number]) => Some(Shape::Boolean),
        ("and" | "or", [_, _, ..]) | ("not", [_]) => Some(Shape::Boolean),
        ("len", [Shape::List(_)]) => Some(Shape::Number),
        ("lookup", [Shape::List(items), Shape::Number]) => Some(items.as_ref().clone()),
        ("json", [_]) => Some(Shape::Text),
        ("join", [Shape::List(items), separator]) if items.is_scalar() && separator.is_text() => {
            Some(Shape::Text)
        }
        ("join", [Shape::List(items), separator, Shape::Text]) if separator.is_text() => {
            let Shape::Record(fields) = items.as_ref() else { return None };
            let field = arguments[2].literal?.as_str()?;
            fields.get(field).is_some_and(Shape::is_scalar).then_some(Shape::Text)
        }
        _ => None,
    }
}

/// A comparison of a choice with a text that is none of its values: both in quotes.
pub(super) fn never(name: &str, arguments: &[Argument<'_>]) -> Option<(String, Vec<String>)> {
    let (left, right) = match (name, arguments) {
        ("eq" | "ne", [left, right]) => (left, right),
        _ => return None,
    };
    let (values, literal) = match (&left.shape, right.literal, &right.shape, left.literal) {
        (Shape::Choice(values), Some(literal), ..)
        | (_, _, Shape::Choice(values), Some(literal)) => (values, literal.as_str()?),
        _ => return None,
    };
    let quoted = |text: &str| format!("{text:?}");
    (!values.iter().any(|value| value == literal))
        .then(|| (quoted(literal), values.iter().map(|value| quoted(value)).collect()))
}

/// How a helper is used with arguments of these types: `with a number and text`.
pub(super) fn in_words(shapes: &[&Shape]) -> String {
    match shapes {
        [] => "without values".to_owned(),
        [one] => format!("with {}", one.word()),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(|shape| shape.word()).collect();
            format!("with {} and {}", first.join(", "), last.word())
        }
    }
}

/// A renderer with these helpers and no others.
pub(super) fn renderer() -> Handlebars<'static> {
    let mut renderer = Handlebars::new();
    renderer.set_strict_mode(true);
    renderer.register_escape_fn(handlebars::no_escape);
    // `handlebars` brings these along; a field of their name would call them.
    renderer.unregister_helper("log");
    renderer.unregister_helper("raw");
    renderer.register_helper("join", Box::new(Join));
    renderer.register_helper("json", Box::new(Json));
    renderer
}

pub(super) struct Join;

impl HelperDef for Join {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let missing = |index| RenderErrorReason::ParamNotFoundForIndex("join", index);
        let list = helper.param(0).and_then(|list| list.value().as_array()).ok_or(missing(0))?;
        let separator = helper.param(1).and_then(|text| text.value().as_str()).ok_or(missing(1))?;
        let field = helper.param(2).and_then(|field| field.value().as_str());
        let part = |element: &Value| match field {
            Some(field) => element.get(field).map(JsonRender::render),
            None => Some(element.render()),
        };
        let parts: Option<Vec<String>> = list.iter().map(part).collect();
        Ok(ScopedJson::Derived(parts.ok_or(missing(2))?.join(separator).into()))
    }
}

struct Json;

impl HelperDef for Json {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let value = helper.param(0).filter(|value| !value.is_value_missing());
        let value = value.ok_or(RenderErrorReason::ParamNotFoundForIndex("json", 0))?;
        Ok(ScopedJson::Derived(value.value().to_string().into()))
    }
}
