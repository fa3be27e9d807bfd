//! Every lint, shown something to object to and something not to.

use std::collections::BTreeSet;

use super::*;
use crate::definition::lint::Used;
use crate::definition::tests::Files;
use crate::layer::archive::testing::Tree as Layer;
use crate::layer::index::Merged;

/// `lint: path` of everything found in one layer.
fn layer_findings(layer: &Layer) -> BTreeSet<String> {
    let findings = lint_layer(&layer.archive()).unwrap();
    findings.iter().map(|finding| format!("{}: {}", finding.lint, finding.path.display())).collect()
}

/// `lint: path message` of everything found in the tree that one layer makes.
fn tree_findings(layer: &Layer, states: &[&str]) -> Vec<String> {
    let archive = layer.archive();
    let stack = [&archive];
    let merged = Merged::new([&archive.index]).unwrap();
    let states: Vec<PathBuf> = states.iter().map(PathBuf::from).collect();
    let findings = lint_tree(&Tree::new(&stack, &merged), &states).unwrap();
    let show = |finding: &Finding| {
        format!("{}: {} {}", finding.lint, finding.path.display(), finding.message)
    };
    findings.iter().map(show).collect()
}

const ELF: &[u8] = b"\x7fELF\x02\x01\x01";

/// The least tree that no tree lint objects to.
fn healthy() -> Layer {
    Layer::parse(
        "d /\nl /bin usr/bin\nd /boot\nd /dev\nd /etc\nd /etc/network\nl /etc/os-release ../usr/lib/os-release\n\
         d /etc/systemd\nf /etc/group root:x:0:\nf /etc/passwd root:x:0:0:root:/root:/bin/sh\nf /etc/shadow root:*:::::::\n\
         f /etc/machine-id\nd /proc\nd /root\nd /run\nl /sbin usr/sbin\nd /sys\nd /tmp\nd /usr\nd /usr/bin\nl /usr/bin/sh dash\n\
         d /usr/lib\nd /usr/lib/systemd\nd /usr/sbin\nl /usr/sbin/init ../lib/systemd/systemd\n\
         f /usr/sbin/ifup x\nf /usr/sbin/dhcpcd x\nd /var\nd /var/lib\nd /var/lib/mysql\nd /var/lib/mysql/sub",
    )
    .file("usr/bin/dash", ELF)
    .file("usr/lib/systemd/systemd", ELF)
    .file("usr/lib/os-release", "PRETTY_NAME=\"Debian\"\nID=debian\n")
    .file("etc/debian_version", "13.1\n")
    .file("etc/fstab", "# nothing\n\n")
}

#[test]
fn a_healthy_tree_has_no_findings() {
    assert_eq!(tree_findings(&healthy(), &["/var/lib/mysql"]), [""; 0]);
    assert_eq!(layer_findings(&healthy()), BTreeSet::new());
}

#[test]
fn what_proxmox_would_refuse_is_found() {
    let file = |path: &str, content: &str| healthy().file(path, content);
    let with = |line: &str| {
        let mut tree = healthy();
        tree.extend(Layer::parse(line));
        tree
    };
    let without = |path: &str| healthy().without(path);
    let cases = [
        (without("usr/lib/os-release"), "os-release: etc/os-release is missing"),
        (
            file("usr/lib/os-release", "ID=fedora\n"),
            "os-release: etc/os-release has the ID `fedora`, not `debian` or `ubuntu`",
        ),
        (without("etc/debian_version"), "os-release: etc/debian_version is missing"),
        (
            file("etc/debian_version", "trixie\n"),
            "os-release: etc/debian_version does not begin with a version: \"trixie\\n\"",
        ),
        (
            file("usr/lib/os-release", "ID=ubuntu\n"),
            "os-release: etc/lsb-release does not name Ubuntu and its release",
        ),
        (without("usr/bin/dash"), "shell: bin/sh does not lead to a file"),
        (file("usr/bin/dash", "#!/bin/false"), "shell: bin/sh does not lead to an ELF program"),
        (without("usr/sbin/init"), "init: sbin/init does not lead to /usr/lib/systemd/systemd"),
        (without("etc/systemd"), "needed-path: etc/systemd is not a directory"),
        (without("etc/network"), "needed-path: etc/network is not a directory"),
        (without("root"), "needed-path: root is not a directory"),
        (without("etc/shadow"), "needed-path: etc/shadow is not a file"),
        (without("usr/sbin/ifup"), "network-tools: usr/sbin/ifup is missing"),
        (
            without("usr/sbin/dhcpcd"),
            "network-tools: usr/sbin/dhcpcd is missing, and there is no other DHCP client",
        ),
        (with("f /boot/vmlinuz-6 x"), "kernel: boot/vmlinuz-6 belongs to a kernel or boot loader"),
        (with("l /vmlinuz boot/x"), "kernel: vmlinuz belongs to a kernel or boot loader"),
        (
            file("etc/fstab", "# a\n/dev/sda1 / ext4\n"),
            "fstab: etc/fstab has an entry: \"/dev/sda1 / ext4\"",
        ),
        (without("etc/machine-id"), "empty-machine-id: etc/machine-id is missing"),
        (file("etc/machine-id", "x"), "empty-machine-id: etc/machine-id is not an empty file"),
    ];
    for (tree, expected) in cases {
        assert_eq!(tree_findings(&tree, &[]), [expected]);
    }
    // Any DHCP client and any release of Ubuntu will do.
    let dhclient = without("usr/sbin/dhcpcd").file("usr/sbin/dhclient", ELF);
    assert_eq!(tree_findings(&dhclient, &[]), [""; 0]);
    let ubuntu = file("usr/lib/os-release", "ID=ubuntu\n")
        .file("etc/lsb-release", "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=22.04\n");
    assert_eq!(tree_findings(&ubuntu, &[]), [""; 0]);
}

#[test]
fn state_that_cannot_be_mounted_is_found() {
    let tree = healthy().file("var/lib/mysql/sub/ibdata1", "x");
    let mut linked = healthy();
    linked.extend(Layer::parse("l /srv var/lib\nf /file x"));
    for (tree, state, expected) in [
        (
            &linked,
            "/var/lib/nothing",
            "state-path: var/lib/nothing is missing, but state is kept there",
        ),
        (&linked, "/srv/mysql", "state-path: srv is no directory, but state is kept at /srv/mysql"),
        (&linked, "/file", "state-path: file is no directory, but state is kept at /file"),
        (
            &tree,
            "/var/lib/mysql",
            "state-path: var/lib/mysql/sub/ibdata1 would be hidden by a state volume",
        ),
    ] {
        let findings = tree_findings(tree, &[state]);
        assert!(findings.iter().any(|finding| finding == expected), "{findings:?}");
    }
}

#[test]
fn paths_that_must_not_be_in_a_layer_are_found() {
    for (path, lint) in [
        ("etc/ssh/ssh_host_ed25519_key", "ssh-host-key"),
        ("etc/ssh/ssh_host_rsa_key.pub", "ssh-host-key"),
        ("etc/dropbear/dropbear_rsa_host_key", "ssh-host-key"),
        ("etc/machine-id", "machine-id"),
        ("var/lib/dbus/machine-id", "machine-id"),
        ("var/lib/systemd/random-seed", "random-seed"),
        ("var/lib/systemd/credential.secret", "credential-secret"),
        ("etc/ssl/private/ssl-cert-snakeoil.key", "snakeoil-key"),
        ("var/lib/mysql/ibdata1", "database-content"),
        ("var/lib/postgresql/17/main/PG_VERSION", "database-content"),
        ("etc/hostname", "host-name"),
        ("var/log/dpkg.log", "log-file"),
        ("var/log/apt/history.log", "log-file"),
        ("var/cache/apt/pkgcache.bin", "cache"),
        ("var/lib/apt/lists/x_Packages", "cache"),
        ("var/cache/ldconfig/aux-cache", "cache"),
        ("var/cache/debconf/config.dat-old", "cache"),
        ("etc/passwd-", "backup-file"),
        ("var/lib/dpkg/status-old", "backup-file"),
        ("etc/default/x.dpkg-old", "backup-file"),
        ("var/backups/dpkg.status.0", "backup-file"),
        ("usr/sbin/policy-rc.d", "build-tool"),
        ("run/x.pid", "volatile-content"),
        ("var/tmp/x", "volatile-content"),
        ("dev/null", "device"),
    ] {
        let layer = Layer::default().file(path, "a:x");
        assert_eq!(layer_findings(&layer), BTreeSet::from([format!("{lint}: {path}")]), "{path}");
        // Removing it is what a layer above is for.
        assert_eq!(layer_findings(&Layer::parse(&format!("w {path}"))), BTreeSet::new(), "{path}");
    }
}

#[test]
fn innocent_paths_are_not_found() {
    let layer = Layer::parse(
        "f /etc/machine-id\nl /var/lib/dbus/machine-id /etc/machine-id\nd /var/lib/mysql\n\
         f /etc/ssh/sshd_config x\nf /var/log/wtmp\nl /var/log/README ../x\nd /var/log/apt\nf /var/cache/debconf/config.dat x\n\
         f /var/lib/dpkg/status x\nd /run/lock\nd /var/tmp\nf /usr/share/x/ssh_host_x y\nf /usr/share/x/old.dpkg-old y\nd /dev",
    );
    assert_eq!(layer_findings(&layer), BTreeSet::new());
}

#[test]
fn passwords_are_found() {
    for (path, line, found) in [
        ("etc/shadow", "root:$y$j9T$abc:19000::::::", true),
        ("etc/shadow", "root::19000::::::", true),
        ("etc/shadow", "broken", true),
        ("etc/shadow", "root:!$6$x:19000::::::", true),
        ("etc/shadow", "root:*:19000::::::\nmysql:!:19000::::::\n_apt:!*:1::::::\n", false),
        ("etc/passwd", "root:x:0:0::/root:/bin/sh", false),
        ("etc/passwd", "root:abcdefghijklm:0:0::/root:/bin/sh", true),
        ("etc/gshadow", "root:*::", false),
    ] {
        let findings = layer_findings(&Layer::default().file(path, line));
        assert_eq!(!findings.is_empty(), found, "{line}: {findings:?}");
    }
}

#[test]
fn secrets_that_packages_mint_are_found() {
    for (path, content, found) in [
        ("etc/bigbluebutton/bbb-web.properties", "a=b\nsecuritySalt=8cd8ef52\n", true),
        ("etc/bigbluebutton/bbb-web.properties", "#securitySalt=8cd8ef52\nsecuritySalt=\n", false),
        ("etc/default/bbb-graphql-server", "HASURA_GRAPHQL_ADMIN_SECRET=\"abc\"", true),
        ("etc/default/bbb-graphql-server", "HASURA_GRAPHQL_ADMIN_SECRET=\"\"", false),
        ("usr/share/bbb-graphql-server/config.yaml", "admin_secret: abc", true),
        (
            "opt/freeswitch/etc/freeswitch/vars.xml",
            "<X-PRE-PROCESS cmd=\"set\" data=\"default_password=5f3a\"/>",
            true,
        ),
        (
            "opt/freeswitch/etc/freeswitch/vars.xml",
            "<X data=\"default_password=$${from_elsewhere}\"/>",
            false,
        ),
        ("usr/share/etherpad-lite/APIKEY.txt", "abc", true),
        ("usr/share/etherpad-lite/APIKEY.txt", "", false),
        ("etc/somewhere/else", "securitySalt=8cd8ef52", false),
    ] {
        let findings = layer_findings(&Layer::default().file(path, content));
        assert_eq!(!findings.is_empty(), found, "{path}: {content}: {findings:?}");
    }
}

#[test]
fn a_password_that_a_package_ships_may_be_replaced_by_a_layer_above_and_a_minted_one_may_not() {
    let path = "opt/freeswitch/etc/freeswitch/vars.xml";
    let with = |password: &str| {
        let line = format!("<X-PRE-PROCESS cmd=\"set\" data=\"default_password={password}\"/>");
        Layer::parse("d /\nd /opt\nd /opt/freeswitch\nd /opt/freeswitch/etc\nd /opt/freeswitch/etc/freeswitch")
            .file(path, line)
    };
    for (password, in_layer, in_tree) in
        [("1234", false, true), ("8cd8ef52", true, false), ("$later", false, false)]
    {
        let tree = tree_findings(&with(password), &[]);
        let shipped = tree.iter().any(|finding| finding.starts_with("default-password: "));
        assert_eq!(!layer_findings(&with(password)).is_empty(), in_layer, "{password}");
        assert_eq!(shipped, in_tree, "{password}: {tree:?}");
    }
}

/// A key's text with `label` and `body`; put together here so that this file holds no key.
fn key(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----{body}")
}

#[test]
fn private_keys_are_found_wherever_they_are() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7".to_owned() + "VJTUt9Us";
    let cases = [
        (key("PRIVATE KEY", &format!("\n{line}\n")), true),
        (key("RSA PRIVATE KEY", &format!("\r\n{line}\r\n")), true),
        (key("EC PRIVATE KEY", &format!("\n{line}\n")), true),
        (key("ENCRYPTED PRIVATE KEY", &format!("\n{line}\n")), true),
        (key("OPENSSH PRIVATE KEY", &format!("\n{line}\n")), true),
        (key("RSA PRIVATE KEY", "\nProc-Type: 4,ENCRYPTED\n"), true),
        (key("PGP PRIVATE KEY BLOCK", &format!("\n\n{line}\n")), true),
        (format!("{{\"key\": \"{}\"}}", key("PRIVATE KEY", &format!("\\n{line}\\n"))), true),
        (format!("key: |\n  {}", key("PRIVATE KEY", &format!("\n  {line}\n"))), true),
        (format!("cert\n{}", key("PRIVATE KEY", &format!("\n{line}\n"))), true),
        // What programs and documentation contain.
        (key("PRIVATE KEY", "\0-----END PRIVATE KEY-----\0"), false),
        (key("PRIVATE KEY", "\n...\n-----END PRIVATE KEY-----"), false),
        (key("PRIVATE KEY", "\nMIIB\n"), false),
        (key("PUBLIC KEY", &format!("\n{line}\n")), false),
        (key("CERTIFICATE", &format!("\n{line}\n")), false),
        (format!("PRIVATE KEY-----\n{line}"), false),
        (format!("-----BEGIN %s PRIVATE KEY-----\n{line}"), false),
    ];
    for (text, found) in cases {
        for before in [0, 511, 3000] {
            let content = [" ".repeat(before).as_bytes(), text.as_bytes()].concat();
            let findings = layer_findings(&Layer::default().file("a/b", content));
            let expected = if found { vec!["private-key: a/b".to_owned()] } else { Vec::new() };
            assert_eq!(findings.into_iter().collect::<Vec<_>>(), expected, "{text:?}");
        }
    }
}

#[test]
fn a_key_is_found_at_every_place_relative_to_what_is_read_at_once() {
    let text = key("OPENSSH PRIVATE KEY", &format!("\n{}\n", "A".repeat(70)));
    // Around the first boundary between two reads, which is at 1 MiB of the archive.
    for before in ((1 << 20) - 1400..(1 << 20) + 200).step_by(7) {
        let content = [vec![b'\n'; before], text.clone().into_bytes()].concat();
        let layer = Layer::default().file("key", content).archive();
        let findings = lint_layer(&layer).unwrap();
        assert_eq!(findings.len(), 1, "{before} bytes before");
    }
}

#[test]
fn keys_of_self_tests_are_no_secret() {
    let text = key("PRIVATE KEY", &format!("\n{}\n", "A".repeat(64)));
    for (path, found) in [
        ("usr/lib/x86_64-linux-gnu/libgnutls.so.30.40.3", false),
        ("usr/lib/x86_64-linux-gnu/libgnutls.so.30.pem", true),
        ("usr/share/doc/puma/examples/puma/client_certs/server.key", false),
        ("usr/share/doc/puma/server.key", true),
        ("usr/share/moodle/public/lib/php-jwt/README.md", false),
        ("usr/share/moodle/public/lib/php-jwt/key.pem", true),
        ("usr/lib/x86_64-linux-gnu/libother.so.30", true),
    ] {
        let findings = layer_findings(&Layer::default().file(path, &text));
        assert_eq!(!findings.is_empty(), found, "{path}");
    }
}

#[test]
fn a_key_does_not_continue_in_the_next_file() {
    let layer = Layer::default()
        .file("a", key("PRIVATE KEY", "\n"))
        .file("b", "A".repeat(70))
        .file("c", format!("x{}", "\n".repeat(511)));
    assert_eq!(layer_findings(&layer), BTreeSet::new());
}

#[test]
fn findings_are_shown_with_reason_and_remedy() {
    let layer = Layer::default().file("etc/machine-id", "x").archive();
    let findings = lint_layer(&layer).unwrap();
    assert_eq!(findings[0].layer, Some(layer.digest));
    let shown = findings[0].to_string();
    assert_eq!(shown, "/etc/machine-id is not empty [machine-id]");
    let help = miette::Diagnostic::help(&findings[0]).unwrap().to_string();
    assert!(
        help.contains("same machine id") && help.contains("leave /etc/machine-id empty"),
        "{help}"
    );
}

#[test]
fn findings_round_trip_so_that_they_can_be_kept() {
    let layer = Layer::default().file("dev/x", "x").archive();
    let findings = lint_layer(&layer).unwrap();
    let text = serde_json::to_string(&findings).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Finding>>(&text).unwrap(), findings);
    assert_ne!(layer_key(&layer.digest), layer_key(&Digest::of("another")));
}

#[test]
fn every_lint_of_layers_and_images_is_looked_for() {
    let looked: BTreeSet<&str> = rules().map(|rule| rule.lint.name).collect();
    let images = registry::all().filter(|lint| lint.looks_at_images());
    assert_eq!(looked, images.map(|lint| lint.name).collect());
    assert_eq!(rules().count(), looked.len());
    for rule in rules() {
        let subject = match rule.check {
            Check::Entry(_) | Check::Layer(_) => registry::Subject::Layer,
            Check::Image(_) => registry::Subject::Image,
        };
        assert_eq!(rule.lint.subject, subject, "{}", rule.lint.name);
    }
}

#[test]
fn only_what_is_named_is_tolerated() {
    let layer = Layer::default()
        .file("var/log/vendor.log", "x")
        .file("var/log/other.log", "x")
        .file("var/log/deep/er.log", "x")
        .archive();
    let findings = lint_layer(&layer).unwrap();
    let judged = |lints: &str| {
        let files = Files::sound().append("images/web/image.toml", lints);
        let plan = files.load().unwrap().plan("web", Some("campus")).unwrap();
        let mut used = Used::default();
        let judgement = judge(&plan.lints, findings.clone(), &mut used);
        let unused: Vec<String> =
            plan.lints.iter().flat_map(|rule| rule.unused(&used)).map(|(what, _)| what).collect();
        let refused: Vec<String> =
            judgement.refused.iter().map(|it| it.path.display().to_string()).collect();
        let tolerated: Vec<String> = judgement
            .tolerated
            .iter()
            .map(|it| {
                format!("{} {}: {} {}", it.path.display(), it.level, it.reason, it.definition)
            })
            .collect();
        (refused, tolerated, unused)
    };
    let all = ["var/log/deep/er.log", "var/log/other.log", "var/log/vendor.log"];
    assert_eq!(judged(""), (all.map(str::to_owned).to_vec(), vec![], vec![]));
    let lints = "[lints.log-file]\nlevel = \"allow\"\nreason = \"R\"\n";
    assert_eq!(
        judged(&format!("{lints}paths = [\"/var/log/vendor.log\", \"/var/log/gone.log\"]\n")),
        (
            all[..2].iter().map(|it| (*it).to_owned()).collect(),
            vec!["var/log/vendor.log allow: R images/web/image.toml".to_owned()],
            vec!["`log-file` at /var/log/gone.log".to_owned()],
        )
    );
    let (refused, tolerated, unused) =
        judged(&format!("{}paths = [\"/var/log/*\"]\n", lints.replace("allow", "warn")));
    assert_eq!((refused, unused), (vec![all[0].to_owned()], vec![]));
    assert!(tolerated.iter().all(|it| it.contains(" warn: R")), "{tolerated:?}");
    assert!(judge(&[], findings.clone(), &mut Used::default()).accept().is_err());
    assert!(judge(&[], Vec::new(), &mut Used::default()).accept().is_ok());
}
