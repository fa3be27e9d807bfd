//! What trees and templates come to.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{entry, render, rendered, text};
use crate::definition::tests::Files;
use crate::render::RenderedKind;

const WEB: &str = "images/web/image.toml";

#[test]
fn templates_see_what_is_declared() {
    for (template, expected) in [
        ("{{domain}} {{max_connections}}", "campus.example 20000"),
        (
            "{{#each backends}}{{name}}={{address}}:{{port}};{{/each}}",
            "moodle1=10.20.40.11:80;moodle2=10.20.40.12:8080;",
        ),
        (
            "{{#each backends as |b i|}}{{i}}{{b.name}}{{@root.mode}} {{/each}}",
            "0moodle1http 1moodle2http ",
        ),
        ("{{#each backends}}{{#if @last}}{{../domain}}{{/if}}{{/each}}", "campus.example"),
        (
            "{{#each peers}}{{name}} {{address}}/{{prefix}} {{number}}{{#if gateway}} via {{gateway}}{{/if}}\n{{/each}}",
            "lb1 10.20.40.2/24 1 via 10.20.40.1\nlb2 10.20.40.3/24 2\n",
        ),
        ("{{site.name}} {{len site.nodes}} {{image.name}} {{image.version}}", "campus 2 web 1.2.0"),
        ("{{secrets.stats_password}}", "/run/credstore/stats"),
        (
            "{{join time_servers \", \"}}|{{join peers \",\" \"address\"}}",
            "pool.ntp.org|10.20.40.2,10.20.40.3",
        ),
        ("{{json mode}} {{json time_servers}}", "\"http\" [\"pool.ntp.org\"]"),
        ("{{#if (eq mode \"tcp\")}}a{{else if (gt max_connections 10)}}b{{else}}c{{/if}}", "b"),
        ("{{#if (and (ne mode \"tcp\") (or false (not false)))}}yes{{/if}}", "yes"),
        (
            "{{lookup time_servers 0}}{{time_servers.[0]}}{{#if time_servers.[7]}}x{{/if}}",
            "pool.ntp.orgpool.ntp.org",
        ),
        (
            "{{#with site}}{{name}}{{/with}}{{#with (lookup backends 1)}}{{port}}{{/with}}",
            "campus8080",
        ),
        (
            "{{! a comment }}a < b && \"c\" \\{{kept}} {{{domain}}}",
            "a < b && \"c\" {{kept}} campus.example",
        ),
        ("", ""),
    ] {
        assert_eq!(rendered(template), expected, "{template}");
    }
}

#[test]
fn without_a_site_there_are_no_nodes() {
    let template = "{{site.name}}{{#each peers}}x{{else}} alone{{/each}}";
    let files = Files::sound()
        .with("images/web/files/etc/x.conf.hbs", template)
        .append(WEB, "[values]\ndomain = \"x\"\n");
    let project = files.load().unwrap();
    let plan = project.plan("web", None).unwrap();
    let layers = crate::render::render(&project, &plan).unwrap();
    assert_eq!(text(&layers, "etc/x.conf"), "none alone");
}

#[test]
fn templates_see_who_may_connect() {
    let endpoints = r#"
[endpoints.http]
port = 80
clients = "any"
doc = "Requests"
[endpoints.media]
port = "max_connections"
range = 32768
protocol = "udp"
clients = ["web", "operators"]
doc = "Media"
"#;
    let template = "{{site.operators.[0]}} {{#each site.names}}{{name}}={{address}}{{/each}}\n\
                    {{#each endpoints}}{{name}} {{#if (eq protocol \"udp\")}}{{port}}-{{last_port}} \
                    {{/if}}{{#if world}}all{{else}}{{join clients_ipv4 \",\"}}|{{join clients_ipv6 \",\"}} \
                    of {{len clients}}{{/if}}: {{doc}}\n{{/each}}";
    let files = Files::sound()
        .append(WEB, endpoints)
        .append(
            "overlays/campus/overlay.toml",
            "[names]\n\"www.example\" = \"10.20.40.5\"\n\
             [operators]\nnetworks = [\"10.20.10.0/24\", \"fd00::/64\"]\n",
        )
        .with("images/web/files/etc/x.conf.hbs", template);
    let layers = render(&files).unwrap();
    assert_eq!(
        text(&layers, "etc/x.conf"),
        "10.20.10.0/24 www.example=10.20.40.5\nhttp all: Requests\n\
         media 20000-32768 10.20.10.0/24,10.20.40.2,10.20.40.3|fd00::/64 of 4: Media\n"
    );
}

#[test]
fn trees_become_entries_in_order() {
    let files = Files::sound()
        .with("images/web/files/usr/lib/app/run", "#!/bin/sh\n")
        .with("images/web/files/etc/app.d/.gitkeep", "")
        .with("images/web/files/etc/app.conf.hbs", "{{mode}}")
        .with("images/web/files/etc/plain.hbs.txt", "{{mode}}")
        .append(WEB, "[units]\nmask = [\"apt-daily.timer\"]\n[[files]]\npath = \"/etc/app.d\"\nmode = \"0750\"\ngroup = \"haproxy\"\n[[files]]\npath = \"/etc/app.conf\"\nowner = \"990\"\nreplaces = \"haproxy\"\n");
    let run = files.root().join("images/web/files/usr/lib/app/run");
    fs::set_permissions(&run, Permissions::from_mode(0o700)).unwrap();
    let conf = files.root().join("images/web/files/etc/app.conf.hbs");
    fs::set_permissions(&conf, Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(files.root().join("images/web/files/etc/empty")).unwrap();
    symlink("../../etc/passwd", files.root().join("images/web/files/etc/link.hbs")).unwrap();
    let layers = render(&files).unwrap();
    assert_eq!(
        layers.iter().map(|layer| layer.image.as_str()).collect::<Vec<_>>(),
        ["base", "node", "web"]
    );
    assert!(layers[0].entries.is_empty() && layers[1].entries.is_empty());
    let list: Vec<String> = layers[2]
        .entries
        .iter()
        .map(|entry| {
            let kind = match &entry.kind {
                RenderedKind::Directory => "d".to_owned(),
                RenderedKind::File { content } => format!("f{}", content.len()),
                RenderedKind::Symlink { target } => format!("l {}", target.display()),
            };
            let explicit = if entry.explicit { " explicit" } else { "" };
            let replaces = entry.replaces.as_deref().unwrap_or_default();
            format!(
                "{} {:04o} {}:{} {kind}{explicit} {replaces}",
                entry.path.display(),
                entry.mode,
                entry.owner,
                entry.group
            )
            .trim_end()
            .to_owned()
        })
        .collect();
    let expected = [
        "etc 0755 root:root d",
        "etc/app.conf 0644 990:root f4 explicit haproxy",
        "etc/app.d 0750 root:haproxy d explicit",
        "etc/link.hbs 0777 root:root l ../../etc/passwd",
        "etc/plain.hbs.txt 0644 root:root f8",
        "etc/systemd 0755 root:root d",
        "etc/systemd/system 0755 root:root d",
        "etc/systemd/system/apt-daily.timer 0777 root:root l /dev/null",
        "usr 0755 root:root d",
        "usr/lib 0755 root:root d",
        "usr/lib/app 0755 root:root d",
        "usr/lib/app/run 0755 root:root f10",
    ];
    assert_eq!(list, expected);
    assert_eq!(
        entry(&layers, "etc/app.conf").source,
        Path::new("images/web/files/etc/app.conf.hbs")
    );
    assert!(entry(&layers, "etc/app.conf").from_template);
}

#[test]
fn a_site_lays_its_files_over_the_definitions() {
    let files = Files::sound()
        .with("images/web/files/etc/a.conf.hbs", "of the image")
        .with("images/web/files/etc/b.conf", "of the image")
        .with("overlays/campus/files/web/etc/a.conf", "{{of the site}}")
        .with("overlays/campus/files/web/etc/c.conf.hbs", "{{domain}}");
    let layers = render(&files).unwrap();
    assert_eq!(text(&layers, "etc/a.conf"), "{{of the site}}");
    assert_eq!(text(&layers, "etc/b.conf"), "of the image");
    assert_eq!(text(&layers, "etc/c.conf"), "campus.example");
    assert_eq!(
        entry(&layers, "etc/a.conf").source,
        Path::new("overlays/campus/files/web/etc/a.conf")
    );
}

#[test]
fn bytes_are_copied_as_they_are() {
    let files = Files::sound().with("images/web/files/etc/blob", "");
    let bytes: Vec<u8> = (0..=255).collect();
    fs::write(files.root().join("images/web/files/etc/blob"), &bytes).unwrap();
    let layers = render(&files).unwrap();
    assert_eq!(entry(&layers, "etc/blob").kind, RenderedKind::File { content: bytes });
}

#[test]
fn parameters_that_no_template_uses_are_found() {
    let files = Files::sound()
        .with("images/node/files/etc/a.hbs", "{{#each time_servers}}{{@root.domain}}{{/each}}")
        .with("images/web/files/etc/b.hbs", "{{#each backends}}{{port}}{{/each}}")
        .with("overlays/campus/files/web/etc/c.hbs", "{{#with site}}{{../mode}}{{/with}}");
    let findings = crate::render::check(&files.load().unwrap()).unwrap();
    let messages: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(messages, ["no template uses `max_connections` [unused-parameter]"]);
}

#[test]
fn fields_may_be_named_like_what_is_no_helper_here() {
    let parameter = "[parameters.logs]\ntype = \"list\"\nitems = { type = \"record\", fields = { log = { type = \"string\" }, len = { type = \"integer\" } } }\ndefault = [{ log = \"a\", len = 7 }]\ndoc = \"x\"\n";
    let files = Files::sound()
        .append(WEB, parameter)
        .with("images/web/files/etc/x.conf.hbs", "{{#each logs}}{{log}} {{this.len}}{{/each}}");
    assert_eq!(text(&render(&files).unwrap(), "etc/x.conf"), "a 7");
}

#[test]
fn no_parameter_can_be_named_like_a_helper() {
    let reserved = crate::definition::RESERVED_NAMES;
    for name in crate::render::helper::names() {
        assert!(reserved.contains(&name), "{name}");
    }
}
