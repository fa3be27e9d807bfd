//! Which line of a template became which line of its file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use miette::{GraphicalReportHandler, NamedSource};
use proptest::prelude::*;

use super::{entry, render};
use crate::definition::tests::Files;
use crate::render::error::Error;
use crate::render::helper::Join;
use crate::render::locate;
use crate::render::shape::Sight;
use crate::render::template::{Checked, Rendered, Renderer};
use crate::render::values::values;

const CONF: &str = "images/web/files/etc/x.conf.hbs";

/// A project without the files of a template, for tests of very many templates.
struct Bench {
    sight: Sight,
    values: serde_json::Value,
}

fn bench() -> &'static Bench {
    static BENCH: LazyLock<Bench> = LazyLock::new(|| {
        let project = Files::sound().load().unwrap();
        let plan = project.plan("web", Some("campus")).unwrap();
        let sight = Sight::new(&project.stack("web").unwrap(), project.images());
        Bench { sight, values: values(&plan) }
    });
    &BENCH
}

fn render_text(template: &str) -> Result<Rendered, Vec<Error>> {
    let source = Arc::new(NamedSource::new("x.hbs", Arc::new(template.to_owned())));
    let checked = Checked::new(source, &bench().sight)?;
    let values = handlebars::Context::from(bench().values.clone());
    checked.render(&mut Renderer::new(), &values).map_err(|error| vec![error])
}

/// The lines of the rendered template, each after the number of the template's line.
fn numbered(template: &str) -> Vec<String> {
    let rendered = render_text(template).unwrap();
    let lines = rendered.text.lines().zip(rendered.lines);
    lines.map(|(line, number)| format!("{number}:{line}")).collect()
}

#[test]
fn every_line_leads_back_to_its_own() {
    let template = "\
# managed
{{! comment }}
global

  maxconn {{max_connections}}
{{#each backends}}
  {{#if @first}}
backend {{name}}
  {{/if}}
  server {{name}}
    {{address}}:{{port}}
{{else}}
  nothing
{{/each}}
{{domain}}

# end";
    assert_eq!(
        numbered(template),
        [
            "1:# managed",
            "3:global",
            "3:",
            "5:  maxconn 20000",
            "8:backend moodle1",
            "10:  server moodle1",
            "11:    10.20.40.11:80",
            "10:  server moodle2",
            "11:    10.20.40.12:8080",
            "15:campus.example",
            "15:",
            "17:# end",
        ]
    );
}

#[test]
fn trimmed_space_and_escapes_do_not_shift_lines() {
    let template =
        "a\n\n  {{~#if mode~}}\n\n  b \\{{x}}\nc\n{{~/if}}\n\n\nd {{#if mode}}e\nf{{/if}} g\n";
    assert_eq!(numbered(template), ["1:ab {{x}}", "6:c", "6:", "10:d e", "11:f g"]);
}

#[test]
fn the_lines_of_a_long_value_belong_to_its_place() {
    let template = "a\n{{motd}}\nb\n";
    let files = Files::sound().with(CONF, template).append(
        "images/web/image.toml",
        "[parameters.motd]\ntype = \"string\"\ndefault = \"x\\ny\\nz\"\ndoc = \"x\"\n",
    );
    let layers = render(&files).unwrap();
    let lines: Vec<_> =
        (1..=6).map(|line| entry(&layers, "etc/x.conf").source_line(line)).collect();
    assert_eq!(lines, [Some(1), Some(2), Some(2), Some(2), Some(3), None]);
}

#[test]
fn complaints_lead_to_the_uppermost_source() {
    let files = Files::sound()
        .with("images/node/files/etc/x.conf", "a\nb\n")
        .with(CONF, "{{#if mode}}\na\n{{/if}}\n")
        .with("images/web/files/etc/plain", "a\nb");
    let layers = render(&files).unwrap();
    let found = |path, line| {
        locate(&layers, Path::new(path), line).map(|(path, line)| (path.to_owned(), line))
    };
    assert_eq!(found("/etc/x.conf", 1), Some((PathBuf::from(CONF), 2)));
    assert_eq!(found("/etc/plain", 2), Some((PathBuf::from("images/web/files/etc/plain"), 2)));
    assert_eq!(found("/etc/plain", 3), None);
    assert_eq!(found("/etc/plain", 0), None);
    assert_eq!(found("/etc", 1), None);
    assert_eq!(found("/etc/nothing", 1), None);
}

/// Templates of text and tags in any order, sound or not.
fn template() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "{{#if mode}}",
            "{{else}}",
            "{{else if domain}}",
            "{{/if}}",
            "{{#each backends}}",
            "{{/each}}",
            "{{domain}}",
            "{{~domain~}}",
            "{{name}}",
            "{{! note }}",
            "{{!-- {{x}} --}}",
            "\\{{",
            "{{",
            "}}",
            "{{{domain}}}",
            "{{#with site}}",
            "{{/with}}",
            "{{join time_servers \",\"}}",
            "{{{{raw}}}}",
            "{{{{/raw}}}}",
            "{{> x}}",
            "(",
            "[",
            "ä",
            "\u{1f980}",
            "\n",
            "\r\n",
            " ",
        ])
        .prop_map(str::to_owned),
        "[a-z #\n]{0,12}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_template_is_rendered_or_refused(template in prop_oneof![template(), any::<String>()]) {
        match render_text(&template) {
            Err(errors) => {
                for error in errors {
                    let mut text = String::new();
                    GraphicalReportHandler::new().render_report(&mut text, &error).unwrap();
                }
            }
            Ok(rendered) => {
                // The marks for lines leave no trace in the text.
                let mut plain = handlebars::Handlebars::new();
                plain.register_escape_fn(handlebars::no_escape);
                plain.register_helper("join", Box::new(Join));
                let expected = plain.render_template(&template, &bench().values).unwrap();
                prop_assert_eq!(rendered.text, expected);
            }
        }
    }

    #[test]
    fn literal_text_is_found_on_its_line(
        lines in prop::collection::vec(prop::sample::select(vec![
            "", "  ", "{{#each backends}}", "{{/each}}", "{{! note }}", "x {{domain}} ", "{{domain}}",
        ]), 1..16),
    ) {
        // Each line says its own number; loops are closed so that the template is sound.
        let mut open = 0;
        let mut template = String::new();
        for (index, line) in lines.iter().enumerate() {
            match *line {
                "{{#each backends}}" if open == 0 => open = 1,
                "{{/each}}" if open == 1 => open = 0,
                "" | "  " | "{{! note }}" => {}
                _ => {
                    template.push_str(&format!("line {}\n", index + 1));
                    continue;
                }
            }
            template.push_str(line);
            template.push('\n');
        }
        if open == 1 {
            template.push_str("{{/each}}\n");
        }
        for line in numbered(&template) {
            if let Some((found, said)) = line.split_once(":line ") {
                prop_assert_eq!(found, said, "{}", template);
            }
        }
    }
}
