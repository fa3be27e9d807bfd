//! Which line of a template became which line of its file.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{entry, render, text};
use crate::definition::tests::Files;
use crate::render::locate;

const CONF: &str = "images/web/files/etc/x.conf.hbs";

/// The lines of the rendered template, each after the number of the template's line.
fn numbered(template: &str) -> Vec<String> {
    let files = Files::sound().with(CONF, template);
    let layers = render(&files).unwrap();
    let entry = entry(&layers, "etc/x.conf");
    let text = text(&layers, "etc/x.conf");
    let lines = text.lines().enumerate();
    lines.map(|(index, line)| format!("{}:{line}", entry.source_line(index + 1).unwrap())).collect()
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
    assert_eq!(
        numbered(template),
        [
            "1:a  b {{x}}".replace("a  ", "a").replace("1:", "1:"),
            "6:c".into(),
            "6:".into(),
            "6:".into(),
            "10:d e".into(),
            "11:f g".into()
        ]
    );
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
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_template_is_rendered_or_refused(template in prop_oneof![template(), any::<String>()]) {
        let files = Files::sound().with(CONF, &template);
        match render(&files) {
            Err(error) => drop(crate::definition::tests::report(&files, &error)),
            Ok(layers) => {
                // The marks for lines leave no trace in the text.
                let mut plain = handlebars::Handlebars::new();
                plain.register_escape_fn(handlebars::no_escape);
                plain.register_helper("join", Box::new(crate::render::helper::Join));
                let plan = files.load().unwrap().plan("web", Some("campus")).unwrap();
                let values = crate::render::values::values(&plan);
                let expected = plain.render_template(&template, &values).unwrap();
                prop_assert_eq!(text(&layers, "etc/x.conf"), expected);
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
