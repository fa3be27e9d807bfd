//! Parts of images made by hand.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::artifact::manifest::LayerKind;
use crate::build::PinnedPackage;
use crate::digest::Digest;
use crate::inspect::Layer;
use crate::layer::archive::testing::Tree as Layers;
use crate::lock::LockedPackage;

fn about() -> About {
    About { role: "app".to_owned(), site: None }
}

/// Packages of `image`, by name.
fn image(name: &str, packages: &[&str]) -> LockedImage {
    let pinned = |name: &&str| PinnedPackage {
        package: LockedPackage {
            name: (*name).to_owned(),
            version: "1.0".to_owned(),
            architecture: "amd64".to_owned(),
            repository: "x".to_owned(),
            path: String::new(),
            source: None,
            size: 1,
            sha256: Digest::of(name),
            snapshot: None,
        },
        urls: Vec::new(),
    };
    LockedImage {
        name: name.to_owned(),
        packages: packages.iter().map(pinned).collect(),
        sources: Vec::new(),
        files: Vec::new(),
        users: Vec::new(),
        groups: Vec::new(),
        commands: vec![vec!["make".to_owned(), "index".to_owned()]],
        places: vec!["images/app/image.toml:20".to_owned()],
        state: Vec::new(),
    }
}

fn asked(place: u32, text: &str) -> Asked {
    let place = format!("images/app/image.toml:{place}");
    Asked { image: "app".to_owned(), place, text: text.to_owned() }
}

fn part<'a>(images: &'a [LockedImage], asked: Vec<Asked>) -> PartOf<'a> {
    PartOf {
        part: Part::Image,
        images: images.iter().collect(),
        asked,
        essential: Some(self::asked(5, "essential = true")),
        architecture: "amd64",
        rendered: Vec::new(),
    }
}

/// The entry of a package: its name, and further fields.
fn text(name: &str, fields: &str) -> String {
    format!(
        "Package: {name}\nVersion: 1.0\nArchitecture: amd64\n{fields}Filename: x/{name}\nSize: 1\n\
         SHA256: {}\n",
        Digest::of(name)
    )
}

/// Chains in one line each: `9 web > libweb > libc`.
fn chains(reason: &PackageReason) -> Vec<String> {
    let chain = |chain: &Chain| {
        let line = chain.asked.place.rsplit(':').next().unwrap_or_default();
        let steps = chain.steps.iter().map(|step| format!(" > {}", step.on));
        format!("{line} {}{}", chain.package, steps.collect::<String>())
    };
    reason.chains.iter().map(chain).collect()
}

#[test]
fn the_shortest_ways_to_a_package_are_told() {
    let images = [
        image("base", &["libc", "shell"]),
        image("app", &["web", "libweb", "libssl", "mta", "tool", "loop"]),
    ];
    let texts = [
        text("libc", "Depends: loop\n"),
        text("shell", "Essential: yes\nPre-Depends: libc (>= 0.5)\n"),
        text("web", "Depends: libweb (= 1.0), none | mail-agent\n"),
        text("libweb", "Depends: libssl, libc\n"),
        text("libssl", "Depends: libc\n"),
        text("mta", "Provides: mail-agent\n"),
        text("tool", "Depends: libssl\n"),
        text("loop", "Depends: libc\n"),
    ];
    let part = part(&images, vec![asked(9, "web (>= 1)"), asked(10, "tool | other")]);
    let why = |name| package::reason(&about(), &part, name, &texts).unwrap();
    for (name, expected) in [
        ("web", vec!["9 web"]),
        ("tool", vec!["10 tool"]),
        ("shell", vec!["5 shell"]),
        ("libssl", vec!["10 tool > libssl", "9 web > libweb > libssl"]),
        ("mta", vec!["9 web > mta"]),
        ("libc", vec!["5 shell > libc", "10 tool > libssl > libc", "9 web > libweb > libc"]),
        ("loop", vec!["5 shell > libc > loop"]),
    ] {
        let mut found = chains(&why(name));
        found.sort_by_key(|chain| chain.matches('>').count());
        let mut sorted = expected.clone();
        sorted.sort_by_key(|chain| chain.matches('>').count());
        found.sort();
        sorted.sort();
        assert_eq!(found, sorted, "{name}");
    }
    let mta = why("mta");
    assert_eq!(mta.chains[0].steps[0].relation, "none | mail-agent");
    assert_eq!((mta.image.as_str(), mta.part), ("app", Part::Image));
    assert_eq!(why("libc").image, "base");
    // The one that depends on it and came because of it is named, but explains nothing.
    assert_eq!(why("libc").needed_by, ["shell", "libssl", "libweb", "loop"]);
    let help = package::providers(&part, "mail-agent", &texts).unwrap();
    assert_eq!(help, "it is provided by mta: ask for that");
    assert_eq!(package::providers(&part, "other-agent", &texts), None);
}

#[test]
fn what_put_a_path_there_is_told_the_uppermost_first() {
    let system = "d /\nd etc\nd usr\nd usr/bin\nl bin usr/bin\nd var\nd var/lib\nd var/lib/dpkg\n\
        d var/lib/dpkg/info\nf usr/bin/web w\nf etc/web.conf c\nf etc/made m\nf etc/gone g\n\
        f var/lib/dpkg/info/web.list /bin/web\n";
    // A list with more than one line.
    let system = Layers::parse(system)
        .file("var/lib/dpkg/info/libweb.list", "/etc\n/etc/web.conf\n/etc/gone\n");
    let stack = [
        system.archive(),
        Layers::parse("f etc/index i\nw etc/gone\n").archive(),
        Layers::parse("f etc/web.conf o\n").archive(),
    ]
    .map(Arc::new);
    let kinds = [LayerKind::Packages, LayerKind::Run, LayerKind::Files];
    let layers = kinds.map(|kind| Layer { image: "app".into(), kind, digest: None, size: None });
    let layers: Vec<&Layer> = layers.iter().collect();
    let images = [image("app", &["web", "libweb"])];
    let part = part(&images, Vec::new());
    let tree = Tree::new(&stack).unwrap();
    let owners = Ownership::read(&tree).unwrap();
    let why = |path: &str| path::reason(&about(), &part, path, &tree, &layers, &owners);
    let told = |path: &str| -> Vec<String> {
        let claims = why(path).unwrap().claims;
        let claim = |claim: &Claim| {
            let removed = if claim.removed { " removed" } else { "" };
            let commands = claim.commands.iter().map(|it| it.command.clone());
            let by: Vec<String> = claim.packages.iter().cloned().chain(commands).collect();
            format!("{}{removed}: {}", claim.layer, by.join(","))
        };
        claims.iter().map(claim).collect()
    };
    // Packages may still name paths as before /usr was merged.
    assert_eq!(told("/bin/web"), ["app packages: web"]);
    assert_eq!(why("/bin/web").unwrap().path, "/usr/bin/web");
    assert_eq!(told("/etc/web.conf"), ["app files: ", "app packages: libweb"]);
    assert_eq!(told("/etc/made"), ["app packages: "]);
    assert_eq!(told("/etc/index"), ["app run: make index"]);
    assert_eq!(told("/etc/gone"), ["app run removed: make index", "app packages: libweb"]);
    assert_eq!(why("/etc/gone").unwrap().kind, None);
    assert_eq!(why("/bin").unwrap().target, Some(PathBuf::from("usr/bin")));
    assert!(why("/etc/none").is_none());
    let close = |path: &str| path::closest(&tree, path).unwrap();
    assert_eq!(close("/etc/web.cnf"), "in /etc: did you mean `web.conf`?");
    assert_eq!(close("/usr/bin/other/x"), "/usr/bin is there, and has no `other`");
}
