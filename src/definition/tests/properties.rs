//! Whatever a file holds, reading it ends in a value or an error.

use proptest::prelude::*;

use super::{Files, report};

/// Lines of definitions in any order and number, some of them damaged.
fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        prop::sample::select(super::fixture::WEB.lines().collect::<Vec<_>>())
            .prop_map(str::to_owned),
        "[a-z\\[\\]{}=\"., 0-9-]{0,30}",
        "(default|minimum|uid|path|install|doc|type) = (\"[^\"\\\\]{0,8}\"|-?[0-9]{1,20}|\\[\\]|\\{\\}|1979-05-27|1.5)",
    ];
    prop::collection::vec(line, 0..30).prop_map(|lines| lines.join("\n"))
}

proptest! {
    // Each case writes a project to the disk.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_definition_is_read_or_refused(text in prop_oneof![lines(), any::<String>()]) {
        let files = Files::sound().with("images/web/image.toml", &text);
        if let Err(error) = files.load() {
            report(&files, &error);
        }
    }

    #[test]
    fn any_overlay_is_read_or_refused(text in prop_oneof![lines(), any::<String>()]) {
        let files = Files::sound().with("overlays/campus/overlay.toml", &text);
        if let Err(error) = files.load() {
            report(&files, &error);
        }
    }

    #[test]
    fn values_come_through_unchanged(
        text in "[^\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]{0,40}",
        number in any::<i64>(),
        port in 1..=u16::MAX,
    ) {
        let declarations = "[parameters.text]\ntype = \"string\"\ndoc = \"x\"\n\
            [parameters.number]\ntype = \"integer\"\ndoc = \"x\"\n\
            [parameters.ports]\ntype = \"list\"\nitems = { type = \"port\" }\ndoc = \"x\"\n";
        let values = toml::Table::from_iter([
            ("text".to_owned(), toml::Value::from(text.clone())),
            ("number".to_owned(), toml::Value::from(number)),
            ("ports".to_owned(), toml::Value::from(vec![i64::from(port)])),
        ]);
        let overlay = format!("summary = \"x\"\n[images.base]\ndomain = \"x\"\n[images.web]\n{values}\n");
        let files = Files::sound()
            .append("images/web/image.toml", declarations)
            .with("overlays/campus/overlay.toml", &overlay);
        let plan = files.load().unwrap().plan("web", Some("campus")).unwrap();
        prop_assert_eq!(plan.values["text"].value.as_str(), Some(text.as_str()));
        prop_assert_eq!(plan.values["number"].value.as_i64(), Some(number));
        prop_assert_eq!(&plan.values["ports"].value, &serde_json::json!([port]));
    }
}
