//! Checks a parsed template against the types of everything it can name.
//!
//! The strict mode of `handlebars` refuses a missing value only where it is written out, only
//! when that line is reached, and never in `{{#if}}`. So every path of every expression is
//! resolved here against the declared types, whether or not a value makes the template take that
//! branch: a typo inside `{{#each}}` is found even if the list is empty.

use handlebars::Path;
use handlebars::template::{BlockParam, HelperTemplate, Parameter, Template, TemplateElement};
use serde_json::Value;

use crate::definition::did_you_mean;

use super::error::{Error, TemplateProblem};
use super::helper::{self, Argument};
use super::position::Cursor;
use super::scope::{Frame, Scope};
use super::shape::{Shape, Sight};

/// Everything that is wrong with `template`, which was parsed from the text under `cursor`.
pub(super) fn check(template: &Template, cursor: Cursor<'_>, sight: &Sight) -> Vec<Error> {
    let mut checker = Checker { cursor, scope: Scope::new(sight), errors: Vec::new() };
    checker.template(template);
    checker.errors
}

struct Checker<'a> {
    cursor: Cursor<'a>,
    scope: Scope<'a>,
    errors: Vec<Error>,
}

/// The type of an expression; none if an error about it is reported already.
type Known = Option<Shape>;

impl Checker<'_> {
    fn template(&mut self, template: &Template) {
        for (index, element) in template.elements.iter().enumerate() {
            match (template.mapping.get(index), element) {
                (Some(start), _) => self.cursor.move_to(start),
                // `{{else if …}}` becomes a block of its own, for which no position is kept.
                (None, TemplateElement::HelperBlock(block)) => {
                    self.cursor.move_to_else(name(&block.name), first_word(block));
                }
                (None, _) => {}
            }
            self.element(element);
        }
    }

    fn element(&mut self, element: &TemplateElement) {
        let unsupported = match element {
            TemplateElement::RawString(_) | TemplateElement::Comment(_) => return,
            TemplateElement::Expression(call) | TemplateElement::HtmlExpression(call) => {
                return self.written_out(call);
            }
            TemplateElement::HelperBlock(block) => return self.block(block),
            TemplateElement::DecoratorExpression(_) | TemplateElement::DecoratorBlock(_) => {
                "decorators (`{{*…}}`)"
            }
            _ => "partials (`{{> …}}`)",
        };
        self.report(TemplateProblem::Unsupported(unsupported), "", None);
    }

    /// `{{expression}}`: something that text can be made of.
    fn written_out(&mut self, call: &HelperTemplate) {
        if let Some(shape) = self.call(call)
            && !shape.is_scalar()
        {
            let help = match shape {
                Shape::List(_) => "use {{#each}}, {{join}} or {{json}}",
                _ => "name one of its fields, or use {{json}}",
            };
            let problem = TemplateProblem::Type {
                place: "text".to_owned(),
                expected: "a single value",
                value: name(&call.name).to_owned(),
                found: shape.word(),
            };
            self.report_back(problem, name(&call.name), Some(help.to_owned()));
        }
    }

    /// A path or the call of a helper that returns a value.
    fn call(&mut self, call: &HelperTemplate) -> Known {
        let name = name(&call.name);
        if let Parameter::Subexpression(_) = &call.name {
            return self.parameter(&call.name);
        }
        let Some(usage) = helper::function(name) else {
            if call.params.is_empty() && call.hash.is_empty() && helper::block(name).is_none() {
                return self.path(&call.name);
            }
            return self.no_function(name);
        };
        self.cursor.pass(name);
        let mut arguments = Vec::with_capacity(call.params.len());
        for parameter in &call.params {
            let literal = match parameter {
                Parameter::Literal(value) => Some(value),
                _ => None,
            };
            arguments.push(Argument { shape: self.parameter(parameter)?, literal });
        }
        let result = helper::result(name, &arguments).filter(|_| call.hash.is_empty());
        if result.is_none() {
            let helper = name.to_owned();
            self.report_back(TemplateProblem::Usage { helper, usage }, name, None);
        }
        result
    }

    fn no_function(&mut self, name: &str) -> Known {
        if let Some(usage) = helper::block(name) {
            self.report(TemplateProblem::Usage { helper: name.to_owned(), usage }, name, None);
        } else {
            let help = did_you_mean(name, helper::names());
            let names = || format!("helpers: {}", helper::names().collect::<Vec<_>>().join(", "));
            let problem = TemplateProblem::UnknownHelper(name.to_owned());
            self.report(problem, name, Some(help.unwrap_or_else(names)));
        }
        None
    }

    fn parameter(&mut self, parameter: &Parameter) -> Known {
        match parameter {
            Parameter::Name(_) | Parameter::Path(_) => self.path(parameter),
            Parameter::Subexpression(inner) => match inner.as_element() {
                TemplateElement::Expression(call) => self.call(call),
                _ => None,
            },
            Parameter::Literal(Value::String(_)) => Some(Shape::Text),
            Parameter::Literal(Value::Number(_)) => Some(Shape::Number),
            Parameter::Literal(Value::Bool(_)) => Some(Shape::Boolean),
            Parameter::Literal(_) => {
                let what = "literals other than text, numbers, true and false";
                self.report(TemplateProblem::Unsupported(what), "", None);
                None
            }
            _ => None,
        }
    }

    fn path(&mut self, parameter: &Parameter) -> Known {
        let text = name(parameter);
        match self.scope.resolve(text) {
            Ok(shape) => {
                self.cursor.pass(text);
                Some(shape)
            }
            Err((problem, help)) => {
                self.report(problem, text, help);
                None
            }
        }
    }

    fn block(&mut self, block: &HelperTemplate) {
        let name = name(&block.name);
        let Some(usage) = helper::block(name) else { return self.no_block(name) };
        self.cursor.pass(name);
        let [parameter] = block.params.as_slice() else {
            let helper = name.to_owned();
            return self.report_back(TemplateProblem::Usage { helper, usage }, name, None);
        };
        let shape = self.parameter(parameter);
        let names = block_names(block.block_param.as_ref());
        if !block.hash.is_empty() || !names_allowed(name, names.len()) {
            let helper = name.to_owned();
            return self.report_back(TemplateProblem::Usage { helper, usage }, name, None);
        }
        // Without the type of the value there is nothing to check the block against.
        let Some(shape) = shape else { return };
        match self.frame(name, &shape, &names) {
            Ok(frame) => self.bodies(block, frame),
            Err(expected) => {
                let text = self::name(parameter);
                let (place, value, found) = (format!("`{name}`"), text.to_owned(), shape.word());
                let problem = TemplateProblem::Type { place, expected, value, found };
                self.report_back(problem, text, None);
            }
        }
    }

    fn bodies(&mut self, block: &HelperTemplate, frame: Option<Frame>) {
        let outside = self.scope.frames.len();
        self.scope.frames.extend(frame);
        block.template.iter().for_each(|template| self.template(template));
        self.scope.frames.truncate(outside);
        block.inverse.iter().for_each(|template| self.template(template));
    }

    /// What the block `name` brings into sight, if anything; or the type that it takes.
    fn frame(
        &self,
        name: &str,
        shape: &Shape,
        names: &[&str],
    ) -> Result<Option<Frame>, &'static str> {
        let indexed = self.scope.frames.last().is_some_and(|frame| frame.indexed);
        match (name, shape) {
            ("each", Shape::List(items)) => Ok(Some(Frame::each(items, names))),
            ("with", Shape::Record(_)) => Ok(Some(Frame::with(shape.clone(), names, indexed))),
            ("each", _) => Err("a list"),
            ("with", _) => Err("a record"),
            _ => Ok(None),
        }
    }

    fn no_block(&mut self, name: &str) {
        if let Some(usage) = helper::function(name) {
            let helper = name.to_owned();
            let help = format!("write {{{{#if ({name} …)}}}}");
            return self.report(TemplateProblem::Usage { helper, usage }, name, Some(help));
        }
        let help = match self.scope.resolve(name) {
            Ok(Shape::List(_)) => Some(format!("write {{{{#each {name}}}}}")),
            Ok(_) => Some(format!("write {{{{#if {name}}}}}")),
            Err(_) => did_you_mean(name, helper::names()),
        };
        self.report(TemplateProblem::UnknownHelper(name.to_owned()), name, help);
    }

    /// Reports a problem with the next occurrence of `text`.
    fn report(&mut self, problem: TemplateProblem, text: &str, help: Option<String>) {
        let place = self.cursor.next(text);
        self.errors.push(Error::template(problem, &place, help));
        self.cursor.pass(text);
    }

    /// Reports a problem with `text`, which the cursor has passed already.
    fn report_back(&mut self, problem: TemplateProblem, text: &str, help: Option<String>) {
        let place = self.cursor.previous(text);
        self.errors.push(Error::template(problem, &place, help));
    }
}

/// The text of a name or path; empty for anything else.
fn name(parameter: &Parameter) -> &str {
    match parameter {
        Parameter::Name(name) => name,
        Parameter::Path(Path::Relative((_, text)) | Path::Local((_, _, text))) => text,
        _ => "",
    }
}

/// The first name inside a block's opening tag, after the helper.
fn first_word(block: &HelperTemplate) -> &str {
    let mut parameter = block.params.first();
    while let Some(Parameter::Subexpression(inner)) = parameter {
        match inner.as_element() {
            TemplateElement::Expression(call) => match name(&call.name) {
                "" => parameter = call.params.first(),
                name => return name,
            },
            _ => return "",
        }
    }
    parameter.map_or("", name)
}

fn block_names(parameter: Option<&BlockParam>) -> Vec<&str> {
    match parameter {
        None => Vec::new(),
        Some(BlockParam::Single(value)) => vec![name(value)],
        Some(BlockParam::Pair((value, index))) => vec![name(value), name(index)],
        Some(_) => vec![""; 3],
    }
}

fn names_allowed(helper: &str, count: usize) -> bool {
    match helper {
        "each" => count <= 2,
        "with" => count <= 1,
        _ => count == 0,
    }
}
