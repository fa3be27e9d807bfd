//! Scripts, checks and files that fail in a real tree.

use crate::refused;
use crate::support::archive::Archive;
use crate::support::base::base;
use crate::support::package::Package;
use crate::support::project::Project;

/// Builds an image of `packages` (all of them are installed) and of what `app` adds to its definition, on
/// a base in which scripts run. It must be refused as in the snapshot `name`.
#[track_caller]
fn build(name: &str, packages: &[Package], app: &str, files: &[(&str, &str)]) {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, packages);
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let definition = format!("[packages]\ninstall = {names:?}\n{app}");
    let project = Project::on_base(base, &archive, &definition);
    for (path, content) in files {
        project.write(path, content);
    }
    project.succeed(&["lock"]);
    refused(name, &project, &["build", "app"]);
}

#[test]
fn a_script_that_fails() {
    let package = Package::new("web", "1.0").script(
        "postinst",
        "echo 'adding the user web'\necho 'web: the directory /srv/web is missing' >&2\nexit 3",
    );
    build("postinst", &[package], "", &[]);
}

#[test]
fn a_script_that_fails_before_unpacking() {
    let package = Package::new("web", "1.0")
        .script("preinst", "echo 'web: upgrade the database first' >&2\nexit 1");
    build("preinst", &[package], "", &[]);
}

#[test]
fn a_script_that_wants_the_network() {
    let package = Package::new("web", "1.0").script(
        "postinst",
        "cat /sys/class/net/eth0/address || { echo 'no network' >&2; exit 1; }",
    );
    build("network", &[package], "", &[]);
}

/// What a command sees of the machine and may do to it: nothing of the machine's files, processes and networks, and of the
/// capabilities those that scripts of packages use (docs/sandbox.md).
#[test]
fn a_command_that_tries_to_get_out() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &[]);
    let project = Project::on_base(base, &archive, "");
    project.write("outside", "a file of the machine\n");
    let script = format!(
        r#"
        while read -r key value; do
            case $key in CapBnd:) bounding=$value;; NoNewPrivs:) privileges=$value;; esac
        done </proc/self/status
        [ "$privileges" = 1 ] || {{ echo "no_new_privs is $privileges"; exit 1; }}
        [ "$bounding" = 00000000a00405fb ] || {{ echo "capabilities are $bounding"; exit 1; }}
        [ ! -e {outside} ] || {{ echo "files of the machine are here"; exit 1; }}
        routes=0
        while read -r line; do routes=$((routes + 1)); done </proc/net/route
        [ "$routes" -le 1 ] || {{ echo "there are routes"; exit 1; }}
        set -- /proc/[0-9]*
        [ $# -le 4 ] || {{ echo "processes of the machine are here: $*"; exit 1; }}
        "#,
        outside = project.path().join("outside").display()
    );
    let run = format!("\n[[run]]\ncommand = [\"/bin/sh\", \"-ec\", \'\'\'{script}\'\'\']\n");
    project.append("images/app/image.toml", &run);
    project.succeed(&["lock"]);
    project.succeed(&["build", "app", "--format", "lxc"]);
}

#[test]
fn two_packages_with_the_same_file() {
    let package = |name| Package::new(name, "1.0").file("usr/share/web/index.html", name);
    build("file_of_two_packages", &[package("web"), package("other-web")], "", &[]);
}

#[test]
fn a_command_that_fails() {
    let run =
        "[[run]]\ncommand = [\"/bin/sh\", \"-c\", \"echo making the index; ls /srv/nothing\"]\n";
    build("run", &[], run, &[]);
}

#[test]
fn a_command_that_is_not_there() {
    build("run_absent", &[], "[[run]]\ncommand = [\"update-indx\", \"--all\"]\n", &[]);
}

/// Refuses an unknown word and names file and line, as daemons do.
fn daemon() -> Package {
    let program = "#!/bin/sh\nnumber=0\nwhile read -r word rest; do\n number=$((number + 1))\n \
                   case $word in ''|'#'*|listen|workers) ;;\n *) echo \"[ALERT] parsing \
                   [$1:$number]: unknown keyword '$word'\" >&2; exit 1;;\n esac\ndone < \"$1\"\n";
    Package::new("web", "1.0").program("usr/sbin/web-check", program)
}

const CHECK: &str = "[[check]]\ncommand = [\"/usr/sbin/web-check\", \"/etc/web.conf\"]\n\
                     covers = [\"/etc/web.conf\"]\n[parameters.ports]\ntype = \"list\"\n\
                     items = { type = \"port\" }\ndefault = [80, 8080]\ndoc = \"Ports\"\n";

#[test]
fn a_configuration_that_the_daemon_refuses() {
    let template = "# web\n{{#each ports}}\nlisten {{this}}\n{{/each}}\nworkres 4\n";
    build("check", &[daemon()], CHECK, &[("images/app/files/etc/web.conf.hbs", template)]);
}

#[test]
fn a_check_that_is_not_there() {
    let check = CHECK.replace("web-check", "web-chekc");
    build("check_absent", &[daemon()], &check, &[("images/app/files/etc/web.conf", "listen 80\n")]);
}

#[test]
fn a_file_over_that_of_a_package() {
    let package = Package::new("web", "1.0").file("etc/web.conf", "listen 80\n");
    build("packaged", &[package], "", &[("images/app/files/etc/web.conf", "listen 81\n")]);
}

#[test]
fn a_file_where_a_package_has_a_directory() {
    let package = Package::new("web", "1.0").file("etc/web/web.conf", "listen 80\n");
    build("directory", &[package], "", &[("images/app/files/etc/web", "listen 81\n")]);
}

#[test]
fn a_directory_where_a_package_has_a_file() {
    let package = Package::new("web", "1.0").file("etc/web", "listen 80\n");
    build("no_directory", &[package], "", &[("images/app/files/etc/web/web.conf", "listen 81\n")]);
}

#[test]
fn a_file_below_a_link() {
    build("below_link", &[], "", &[("images/app/files/bin/tool", "#!/bin/sh\n")]);
}

#[test]
fn an_owner_that_is_not_there() {
    let files = "[[files]]\npath = \"/etc/web.conf\"\nowner = \"wbe\"\n";
    build("owner", &[], files, &[("images/app/files/etc/web.conf", "listen 81\n")]);
}

#[test]
fn a_root_image_without_dpkg() {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    project.succeed(&["lock"]);
    refused("no_dpkg", &project, &["build", "app"]);
}

#[test]
fn an_image_that_must_not_be_shipped() {
    let run = "[[run]]\ncommand = [\"/bin/sh\", \"-c\", \
               \"echo 'app:secret:20000::::::' >> /etc/shadow\"]\n";
    build("lint", &[], run, &[]);
}
