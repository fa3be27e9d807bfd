//! Checks a parsed template against the types of everything it can name.
//!
//! The strict mode of `handlebars` refuses a missing value only where it is written out, only
//! when that line is reached, and never in `{{#if}}`. So every path of every expression is
//! resolved here against the declared types, whether or not a value makes the template take that
//! branch: a typo inside `{{#each}}` is found even if the list is empty.

use std::collections::BTreeSet;

use handlebars::Path;
use handlebars::template::{BlockParam, HelperTemplate, Parameter, Template, TemplateElement};
use serde_json::Value;

use crate::definition::did_you_mean;

use super::error::{Error, TemplateProblem};
use super::helper::{self, Argument};
use super::position::Cursor;
use super::scope::{Frame, Scope};
use super::shape::{Shape, Sight};

/// Checks `template`, which was parsed from the text under `cursor`. The result are the names it
/// uses of those in sight everywhere; the error is everything that is wrong with it.
pub(super) fn check(
    template: &Template,
    cursor: Cursor<'_>,
    sight: &Sight,
) -> Result<BTreeSet<String>, Vec<Error>> {
    let mut checker = Checker { cursor, scope: Scope::new(sight), errors: Vec::new() };
    checker.template(template);
    if checker.errors.is_empty() { Ok(checker.scope.used) } else { Err(checker.errors) }
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
            let (value, found) = (name(&call.name).to_owned(), shape.word());
            let problem = TemplateProblem::NotScalar { value, found };
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
        if let Some((literal, values)) = helper::never(name, &arguments) {
            self.report_back(TemplateProblem::Never { literal, values }, name, None);
            return None;
        }
        let result = helper::result(name, &arguments).filter(|_| call.hash.is_empty());
        if result.is_none() {
            let shapes: Vec<&Shape> = arguments.iter().map(|argument| &argument.shape).collect();
            self.misused(name, usage, helper::in_words(&shapes), call);
        }
        result
    }

    /// Reports that the helper `name`, just passed, cannot be used like this.
    fn misused(&mut self, name: &str, usage: &str, how: String, call: &HelperTemplate) {
        let how = if call.hash.is_empty() { how } else { "with named arguments".to_owned() };
        let problem = TemplateProblem::Usage { helper: name.to_owned(), how };
        self.report_back(problem, name, Some(format!("use it as {usage}")));
    }

    fn no_function(&mut self, name: &str) -> Known {
        if let Some(usage) = helper::block(name) {
            let (helper, how) = (name.to_owned(), "as a value: it encloses text".to_owned());
            let problem = TemplateProblem::Usage { helper, how };
            self.report(problem, name, Some(format!("use it as {usage}")));
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
                _ => self.unknown_kind(),
            },
            Parameter::Literal(Value::String(_)) => Some(Shape::Text),
            Parameter::Literal(Value::Number(_)) => Some(Shape::Number),
            Parameter::Literal(Value::Bool(_)) => Some(Shape::Boolean),
            Parameter::Literal(_) => {
                let what = "values written out other than text, numbers, true and false";
                self.report(TemplateProblem::Unsupported(what), "", None);
                None
            }
            _ => self.unknown_kind(),
        }
    }

    /// An expression that this version of the grammar does not have: better refused than let by.
    fn unknown_kind(&mut self) -> Known {
        let what = "expressions of this kind";
        self.report(TemplateProblem::Unsupported(what), "", None);
        None
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
            let how = format!("with {} values", block.params.len());
            return self.misused(name, usage, how, block);
        };
        let shape = self.parameter(parameter);
        let names = block_names(block.block_param.as_ref());
        if !block.hash.is_empty() || !names_allowed(name, names.len()) {
            let how = format!("with {} names", names.len());
            return self.misused(name, usage, how, block);
        }
        let Some(shape) = shape else {
            // Without the type of its value, only a block that shows nothing new can be checked.
            if matches!(name, "if" | "unless") {
                self.bodies(block, None);
            }
            return;
        };
        match self.frame(name, &shape, &names) {
            Ok(frame) => self.bodies(block, frame),
            Err(expected) => {
                let text = self::name(parameter);
                let (helper, value, found) = (name.to_owned(), text.to_owned(), shape.word());
                let problem = TemplateProblem::Type { helper, expected, value, found };
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
        if helper::function(name).is_some() {
            let (helper, how) = (name.to_owned(), "as a block: it is a value".to_owned());
            let problem = TemplateProblem::Usage { helper, how };
            return self.report(problem, name, Some(format!("write {{{{#if ({name} …)}}}}")));
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
