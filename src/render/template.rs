//! One template: parsed, checked, rendered, with a record of which of its lines became which.
//!
//! A daemon complains about a line of the rendered file; the operator has to mend a line of the
//! template. So each template is rendered with marks: after it has been parsed, which settles all
//! questions of white space, a call of an invisible helper is put before every piece of text and
//! every expression. The helper writes nothing; it notes the line that the output has reached.

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use handlebars::template::{HelperTemplate, Parameter, Template, TemplateElement, TemplateMapping};
use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext, RenderError,
    RenderErrorReason, Renderable, TemplateErrorReason,
};

use crate::definition::{Place, Source};

use super::check::check;
use super::error::{Error, Result, TemplateProblem};
use super::helper;
use super::position::{Cursor, line_starts, offset};
use super::shape::Sight;
use super::survey::survey;

/// The name of the helper that marks lines. The grammar lets no template name it.
const MARK: &str = "line mark";

/// A template that names only what exists, in the way its type allows.
pub(super) struct Checked {
    source: Source,
    template: Template,
    /// The names it uses of those in sight everywhere.
    pub(super) used: BTreeSet<String>,
}

/// The text of a rendered template.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// For each line of the text, the line of the template it comes from, from 1.
    pub(super) lines: Vec<u32>,
}

impl Checked {
    /// Parses and checks `source`.
    pub(super) fn new(source: Source, sight: &Sight) -> Result<Self, Vec<Error>> {
        let template = parse(&source).map_err(|error| vec![error])?;
        let used = check(&template, Cursor::new(&source), sight)?;
        Ok(Self { source, template, used })
    }

    /// Renders the template with `values`.
    pub(super) fn render(&self, renderer: &mut Renderer, values: &Context) -> Result<Rendered> {
        let mut template = self.template.clone();
        Marker::new(&self.source).mark(&mut template);
        renderer.render(&template, values).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &RenderError) -> Error {
        let reason = match error.reason() {
            RenderErrorReason::MissingVariable(Some(name)) => format!("`{name}` has no value"),
            RenderErrorReason::MissingVariable(None) => "there is no such element".to_owned(),
            reason => reason.to_string(),
        };
        let text = self.source.inner();
        let line = error.line_no.unwrap_or(1);
        let start = offset(text, &line_starts(text), line, error.column_no.unwrap_or(1));
        let length = text[start..].find("}}").map_or(0, |end| end + 2);
        let place = Place::new(self.source.clone(), start..start + length);
        Error::template(TemplateProblem::Render(reason), &place, None)
    }
}

fn parse(source: &Source) -> Result<Template> {
    let text = source.inner();
    let place = |start| letter(source, start);
    survey(text).map_err(|(problem, start)| Error::template(problem, &place(start), None))?;
    Template::compile(text).map_err(|error| {
        let (line, column) = error.pos().unwrap_or((1, 1));
        let place = place(offset(text, &line_starts(text), line, column));
        let (message, help) = match error.reason() {
            TemplateErrorReason::MismatchingClosedHelper(opened, closed) => {
                (format!("{opened} is open, but {closed} is closed"), None)
            }
            TemplateErrorReason::InvalidSyntax(_) => {
                let help = "is a `{{#…}}` without its `{{/…}}`, or a `{{` without `}}`? \
                            To write two braces as such, put a backslash before them";
                ("cannot be read on from here".to_owned(), Some(help.to_owned()))
            }
            reason => (reason.to_string(), None),
        };
        Error::template(TemplateProblem::Syntax(message), &place, help)
    })
}

/// The letter of `source` at `start`, or its last one if `start` is the end.
fn letter(source: &Source, start: usize) -> Place {
    let text = source.inner();
    let (start, letter) = match text[start..].chars().next() {
        Some(letter) => (start, Some(letter)),
        None => match text.trim_end().char_indices().last() {
            Some((start, letter)) => (start, Some(letter)),
            None => (0, None),
        },
    };
    Place::new(source.clone(), start..start + letter.map_or(0, char::len_utf8))
}

/// Puts marks into a parsed template.
struct Marker<'a> {
    text: &'a str,
    lines: Vec<usize>,
    mark: Option<HelperTemplate>,
}

impl<'a> Marker<'a> {
    fn new(source: &'a Source) -> Self {
        let text = source.inner();
        Self { text, lines: line_starts(text), mark: mark() }
    }

    fn mark(&self, template: &mut Template) {
        let elements = mem::take(&mut template.elements);
        let mappings = mem::take(&mut template.mapping);
        let mut mappings = mappings.into_iter();
        for element in elements {
            let mapping = mappings.next();
            self.mark_element(template, element, mapping);
        }
    }

    fn mark_element(
        &self,
        template: &mut Template,
        mut element: TemplateElement,
        mapping: Option<TemplateMapping>,
    ) {
        match &mut element {
            TemplateElement::RawString(text) => {
                for (line, piece) in self.pieces(text, mapping.as_ref()) {
                    self.push_mark(template, line, mapping.clone());
                    push(template, TemplateElement::RawString(piece), mapping.clone());
                }
                return;
            }
            TemplateElement::Expression(_) | TemplateElement::HtmlExpression(_) => {
                let line = mapping.as_ref().map(|mapping| mapping.0);
                self.push_mark(template, line, mapping.clone());
            }
            TemplateElement::HelperBlock(block) => {
                block.template.iter_mut().for_each(|template| self.mark(template));
                block.inverse.iter_mut().for_each(|template| self.mark(template));
            }
            _ => {}
        }
        push(template, element, mapping);
    }

    fn push_mark(
        &self,
        template: &mut Template,
        line: Option<usize>,
        mapping: Option<TemplateMapping>,
    ) {
        if let (Some(line), Some(mark)) = (line, &self.mark) {
            let mut mark = mark.clone();
            mark.params = vec![Parameter::Literal(line.into())];
            push(template, TemplateElement::Expression(Box::new(mark)), mapping);
        }
    }

    /// Cuts text into lines, each with its line in the template; none where only white space is.
    ///
    /// The parser trims white space at the ends of a text and its position may lie before or
    /// behind what it trimmed, but the first letter is the same in both.
    fn pieces(
        &self,
        text: &str,
        mapping: Option<&TemplateMapping>,
    ) -> Vec<(Option<usize>, String)> {
        let letter = text.find(|letter: char| !letter.is_whitespace());
        let (Some(letter), Some(mapping)) = (letter, mapping) else {
            return vec![(None, text.to_owned())];
        };
        let start = offset(self.text, &self.lines, mapping.0, mapping.1);
        let blank = self.text[start..].find(|letter: char| !letter.is_whitespace()).unwrap_or(0);
        let anchor = self.lines.partition_point(|line| *line <= start + blank);
        let blank_lines = text[..letter].matches('\n').count();
        let piece = |(index, piece): (usize, &str)| {
            let line = (anchor + index).saturating_sub(blank_lines);
            (Some(line).filter(|_| !piece.trim().is_empty()), piece.to_owned())
        };
        text.split_inclusive('\n').enumerate().map(piece).collect()
    }
}

fn push(template: &mut Template, element: TemplateElement, mapping: Option<TemplateMapping>) {
    template.elements.push(element);
    template.mapping.extend(mapping);
}

/// A call of the helper that marks lines, made from that of another: `handlebars` makes them only
/// of text.
fn mark() -> Option<HelperTemplate> {
    let template = Template::compile("{{helper 0}}").ok()?;
    match template.elements.into_iter().next()? {
        TemplateElement::Expression(mut call) => {
            call.name = Parameter::Name(MARK.to_owned());
            Some(*call)
        }
        _ => None,
    }
}

/// Renders templates and notes where their lines go.
pub(super) struct Renderer {
    handlebars: Handlebars<'static>,
    record: Arc<Mutex<Record>>,
}

/// How far the output has come, and from where.
#[derive(Default)]
struct Record {
    text: String,
    /// The number of line breaks in the text.
    breaks: usize,
    lines: Vec<u32>,
    /// The line of the template that was marked last.
    latest: u32,
}

impl Record {
    fn mark(&mut self, line: u32) {
        self.fill();
        if self.lines.len() == self.breaks {
            self.lines.push(line);
        }
        self.latest = line;
    }

    /// Lines without a mark belong to what was marked last: they come from a value of many lines.
    fn fill(&mut self) {
        let latest = self.latest.max(1);
        if self.lines.len() < self.breaks {
            self.lines.resize(self.breaks, latest);
        }
    }
}

impl Renderer {
    pub(super) fn new() -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let mut handlebars = helper::renderer();
        handlebars.register_helper(MARK, Box::new(Mark(record.clone())));
        Self { handlebars, record }
    }

    fn render(&mut self, template: &Template, values: &Context) -> Result<Rendered, RenderError> {
        *lock(&self.record) = Record::default();
        let mut output = Recorder(self.record.clone());
        template.render(&self.handlebars, values, &mut RenderContext::new(None), &mut output)?;
        let mut record = mem::take(&mut *lock(&self.record));
        record.fill();
        Ok(Rendered { text: record.text, lines: record.lines })
    }
}

/// A panic while the record was held cannot leave it in a state that matters: it is reset before
/// each template.
fn lock(record: &Mutex<Record>) -> std::sync::MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Recorder(Arc<Mutex<Record>>);

impl Output for Recorder {
    fn write(&mut self, text: &str) -> Result<(), io::Error> {
        let mut record = lock(&self.0);
        record.breaks += text.matches('\n').count();
        record.text.push_str(text);
        Ok(())
    }
}

struct Mark(Arc<Mutex<Record>>);

impl HelperDef for Mark {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        _: &mut dyn Output,
    ) -> HelperResult {
        let line = helper.param(0).and_then(|line| line.value().as_u64());
        lock(&self.0).mark(line.and_then(|line| u32::try_from(line).ok()).unwrap_or(0));
        Ok(())
    }
}
