//! One case for each thing that can be wrong. The reports are in `snapshots/`.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use crate::definition::tests::{Files, report};
use crate::render::{Error, check};

const WEB: &str = "images/web/image.toml";
const CONF: &str = "images/web/files/etc/x.conf.hbs";

/// Compares the report of rendering `files` with the snapshot `name`.
fn refused(name: &str, files: &Files) {
    let error = super::render(files).err().unwrap_or_else(|| panic!("{name}: nothing is wrong"));
    insta::assert_snapshot!(name, report(files, &error));
}

/// Compares the reports of many templates, all in one snapshot.
fn templates_refused(name: &str, templates: &[&str]) {
    let mut reports = String::new();
    for template in templates {
        let files = Files::sound().with(CONF, template);
        let project = files.load().unwrap();
        let error = check(&project).err().unwrap_or_else(|| panic!("{template} is accepted"));
        reports.push_str(&report(&files, &error));
        reports.push('\n');
    }
    insta::assert_snapshot!(name, reports);
}

#[test]
fn names_that_nothing_declares() {
    templates_refused(
        "undeclared",
        &[
            "listen {{max_conections}}\n",
            "global\n  maxconn {{ max_connections }}\n{{#if typo}}x{{/if}}\n",
            "{{#unless typo}}{{tpyo}}{{/unless}}",
            "{{#if mode}}a{{else if typo}}b{{/if}}",
            "{{#if mode}}typo{{#if domain}}x{{else}}typo{{/if}}{{else if (eq typo \"a\")}}b{{/if}}",
            "{{#if (and mode (not typo))}}x{{/if}}",
            "{{#each backend}}x{{/each}}",
            "ä {{#with typo}}x{{/with}}",
            "{{json (lookup typo 0)}}",
            "{{#each backends}}{{name}} {{this.adress}}{{/each}}",
            "{{#each backends}}{{max_connections}}{{/each}}",
            "{{#each backends}}{{../../mode}}{{/each}}",
            "{{#each backends as |server|}}{{server.prot}}{{/each}}",
            "{{#each backends}}{{../mode}}{{else}}{{typo}}{{/each}}",
            "{{@index}}",
            "{{#each backends}}{{@key}}{{/each}}",
            "{{site.nmae}} {{image.arch}}",
            "{{#each site.nodes}}{{adress}}{{/each}}",
            "{{secrets.stats_pasword}}",
            "{{@root.typo}}",
        ],
    );
    let elsewhere = Files::sound().with("images/node/files/etc/x.hbs", "{{backends.0.port}}");
    refused("declared_elsewhere", &elsewhere);
}

#[test]
fn values_used_against_their_type() {
    templates_refused(
        "types",
        &[
            "{{backends}}",
            "{{site}}",
            "{{time_servers.first}}",
            "{{domain.name}}",
            "{{#each domain}}x{{/each}}",
            "{{#each site}}x{{/each}}",
            "{{#with domain}}x{{/with}}",
            "{{#if (eq max_connections \"20000\")}}x{{/if}}",
            "{{#if (gt mode 3)}}x{{/if}}",
            "{{len domain}}",
            "{{join backends \",\"}}",
            "{{join backends \",\" \"adress\"}}",
            "{{lookup time_servers \"0\"}}",
            "{{#if (eq mode \"htpp\")}}x{{/if}}",
            "{{#if (ne \"udp\" mode)}}x{{/if}}",
        ],
    );
}

#[test]
fn templates_that_use_the_language_in_other_ways() {
    templates_refused(
        "language",
        &[
            "{{#if mode}}x",
            "line\n{{#if mode}}x{{/unless}}",
            "{{ mode",
            "{{}}",
            "{{> part}}",
            "{{#*inline \"a\"}}x{{/inline}}",
            "{{uppercase mode}}",
            "{{#backends}}x{{/backends}}",
            "{{#mode}}x{{/mode}}",
            "{{#eq mode \"tcp\"}}x{{/eq}}",
            "{{if mode}}",
            "{{if}}",
            "{{eq}}",
            "{{#if mode includeZero=true}}x{{/if}}",
            "{{#if mode domain}}x{{/if}}",
            "{{#with site as |a b|}}x{{/with}}",
            "{{eq mode null}}",
            "{{json [1]}}",
            "{{json {\"a\": 1}}}",
            "{{__line 3}}",
            "{{log mode}}",
            "{{{{raw}}}}{{x}}{{{{/raw}}}}",
        ],
    );
}

#[test]
fn nesting_has_an_end() {
    let blocks = |depth| format!("{}x{}", "{{#if mode}}".repeat(depth), "{{/if}}".repeat(depth));
    let calls = |depth| {
        format!("{{{{#if {}mode{}}}}}x{{{{/if}}}}", "(not ".repeat(depth), ")".repeat(depth))
    };
    for template in [blocks(50), calls(50)] {
        super::render(&Files::sound().with(CONF, &template)).unwrap();
    }
    for template in [
        blocks(51),
        calls(51),
        blocks(50_000),
        calls(50_000),
        format!("{{{{x {}", "(a ".repeat(50_000)),
    ] {
        let error = super::render(&Files::sound().with(CONF, &template)).unwrap_err();
        assert!(error.to_string().starts_with("more than 50 blocks"), "{error}");
    }
    for template in ["[".repeat(50_000), "{\"}}\":".repeat(50_000)] {
        let template = format!("{{{{json \"}}}}\" {template}");
        let error = super::render(&Files::sound().with(CONF, &template)).unwrap_err();
        assert!(error.to_string().starts_with("lists and records"), "{error}");
    }
}

#[test]
fn elements_that_are_not_there() {
    refused("no_element", &Files::sound().with(CONF, "a\n  b {{lookup time_servers 3}}\n"));
    refused("no_element_path", &Files::sound().with(CONF, "{{time_servers.[3]}}"));
}

#[test]
fn all_templates_are_checked_at_once() {
    let files = Files::sound()
        .with(CONF, "{{a_typo}}\n{{another}}\n")
        .with("images/node/files/etc/y.conf.hbs", "{{typo}}");
    refused("several", &files);
}

#[test]
fn sources_that_disagree_on_a_path() {
    let files = Files::sound()
        .with("images/node/files/etc/app", "a file")
        .with("images/web/files/etc/app/x.conf", "a directory");
    refused("layers_disagree", &files);
    let files = Files::sound()
        .with("images/web/files/etc/app/x.conf", "a directory")
        .with("overlays/campus/files/web/etc/app.hbs", "a file");
    refused("overlay_disagrees", &files);
    let files = Files::sound().with(CONF, "x").with("images/web/files/etc/x.conf", "y");
    refused("template_beside_file", &files);
    let files = Files::sound().with(CONF, "x").with("images/web/files/etc/x.conf/y", "y");
    refused("template_beside_directory", &files);
    let files = Files::sound()
        .append(WEB, "[units]\nmask = [\"x.service\"]\n")
        .with("images/node/files/etc/systemd/system/x.service", "[Unit]");
    refused("masked_file", &files);
}

#[test]
fn paths_no_image_may_ship() {
    for (name, path) in [
        ("lib", "lib/systemd/system/x.service"),
        ("run", "run/x"),
        ("whiteout", "etc/.wh.passwd"),
        ("control", "etc/a\nb"),
        ("nameless", "etc/.hbs/x"),
    ] {
        let files = Files::sound().with(&format!("images/web/files/{path}"), "x");
        match (name, super::render(&files)) {
            ("nameless", result) => assert!(result.is_ok(), "{result:?}"),
            (_, Err(Error::Forbidden { .. })) => {}
            (_, result) => panic!("{path}: {result:?}"),
        }
    }
    refused("forbidden", &Files::sound().with("images/web/files/lib/x", "x"));
}

#[test]
fn entries_that_are_not_files() {
    let files = Files::sound().with("images/web/files/etc/x", "x");
    let socket = files.root().join("images/web/files/etc/socket");
    let _listener = UnixListener::bind(socket).unwrap();
    refused("socket", &files);

    let files = Files::sound();
    symlink("/etc", files.root().join("images/web/files")).unwrap();
    refused("tree_is_a_link", &files);

    let files = Files::sound().with("overlays/campus/files/node/x", "x");
    symlink("/etc", files.root().join("overlays/campus/files/web")).unwrap();
    refused("overlay_tree_is_a_link", &files);
}

#[test]
fn rules_for_paths_that_are_not_there() {
    let conf = |rules: &str| Files::sound().with(CONF, "x").append(WEB, rules);
    refused("rule_typo", &conf("[[files]]\npath = \"/etc/x.cnof\"\nmode = \"0600\"\n"));
    refused("rule_nowhere", &conf("[[files]]\npath = \"/usr/lib/y\"\n"));
    refused(
        "rule_twice",
        &conf("[[files]]\npath = \"/etc/x.conf\"\n[[files]]\npath = \"/etc/x.conf\"\n"),
    );
    refused("covers", &conf("[[check]]\ncommand = [\"/bin/true\"]\ncovers = [\"/etc/y.conf\"]\n"));
    let state = "[[state]]\npath = \"/var/lib/app\"\ndoc = \"x\"\n";
    refused("hidden", &conf(state).with("images/web/files/var/lib/app/key", "x"));
    super::render(&conf(state).with("images/web/files/var/lib/app/.gitkeep", "")).unwrap();
    let files = conf("[[files]]\npath = \"/etc/link\"\nmode = \"0600\"\n");
    symlink("x.conf", files.root().join("images/web/files/etc/link")).unwrap();
    refused("rule_link_mode", &files);
}
