//! Sources that cannot be had, or that no image may have.

use imgbuild::digest::Digest;

use crate::refused;
use crate::support::archive::Archive;
use crate::support::base::base;
use crate::support::http::{Fault, Server};
use crate::support::package::Package;
use crate::support::project::Project;
use crate::support::registry::{Image, layer};

/// A source of the role `app`, with what pins it and what else its table says.
fn source(urls: &[String], pin: &str, more: &str) -> String {
    format!("[sources.code]\ntype = \"archive\"\nurls = {urls:?}\n{pin}\n{more}\n")
}

fn pin(content: &[u8]) -> String {
    format!("sha256 = \"{}\"\npublished = \"a test\"", Digest::of(content))
}

/// A locked project that needs no base: nothing of its packages is reached.
fn locked(definition: &str) -> (Archive, Project) {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, r#"["web"]"#, definition);
    project.succeed(&["lock"]);
    (archive, project)
}

const INTO: &str = "into = \"/usr/share/code\"\nstrip = 1";

#[test]
fn a_source_that_no_url_has() {
    let server = Server::start();
    let closed = "http://127.0.0.1:9/code.tar".to_owned();
    let wrong = server.file("/other/code.tar", "<html>moved</html>");
    let urls = [server.url("/code.tar"), wrong, closed];
    let (_archive, project) = locked(&source(&urls, &pin(b"the code"), INTO));
    refused("source_unreachable", &project, &["build", "app"]);
}

#[test]
fn a_source_is_not_fetched_offline() {
    let urls = ["https://code.invalid/code.tar".to_owned()];
    let (_archive, project) = locked(&source(&urls, &pin(b"the code"), INTO));
    refused("source_offline", &project, &["build", "app", "--offline"]);
}

#[test]
fn a_source_that_nobody_has_verified() {
    let server = Server::start();
    let urls = [server.file("/code.tar", "the code")];
    let how = "unverified = \"ask its authors for the SHA-256 of code.tar\"";
    let (_archive, project) = locked(&source(&urls, how, INTO));
    refused("source_unverified", &project, &["build", "app"]);
    let checked = project.run(&["check"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    crate::compare("source_unverified_check", &project, &checked);
    assert_eq!(server.count("/code.tar"), 0);
}

#[test]
fn a_source_that_is_given_and_not_there() {
    let urls = ["https://code.invalid/code.tar".to_owned()];
    let (_archive, project) = locked(&source(&urls, &pin(b"the code"), INTO));
    refused("source_no_such_file", &project, &["build", "app", "--source", "code=nothing.tar"]);
    refused("source_no_such_name", &project, &["build", "app", "--source", "cod=nothing.tar"]);
}

#[test]
fn a_lock_with_another_source() {
    let urls = ["https://code.invalid/code.tar".to_owned()];
    let (_archive, project) = locked(&source(&urls, &pin(b"the code"), INTO));
    let definition = project.read("images/app/image.toml");
    project.write("images/app/image.toml", &definition.replace("strip = 1", "strip = 2"));
    project.succeed(&["check"]);
    let changed = definition.replace("code.invalid", "mirror.invalid");
    project.write("images/app/image.toml", &changed);
    refused("source_out_of_date", &project, &["build", "app"]);
}

/// Builds a role on the base with a source of this content, which must be refused.
#[track_caller]
fn build(name: &str, content: &[u8], more: &str) {
    let Some(base) = base() else { return };
    let server = Server::start();
    let urls = [server.file("/code.tar", content)];
    let archive = Archive::with_base(base, &[]);
    let project = Project::on_base(base, &archive, &source(&urls, &pin(content), more));
    project.succeed(&["lock"]);
    refused(name, &project, &["build", "app"]);
}

/// An archive of one member; `name` stands in it as it is.
fn archive(name: &str, kind: tar::EntryType, target: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let fields = header.as_old_mut();
    fields.name[..name.len()].copy_from_slice(name.as_bytes());
    fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn a_source_that_leads_out() {
    let file = archive("code/../../etc/passwd", tar::EntryType::Regular, "");
    build("source_climbs", &file, INTO);
    let link = archive("code/key", tar::EntryType::Symlink, "../../../etc/shadow");
    build("source_links", &link, INTO);
}

#[test]
fn a_source_that_is_no_archive() {
    build("source_page", b"<!DOCTYPE html><title>Please log in</title>", INTO);
}

#[test]
fn a_source_over_a_file_of_a_package() {
    let file = archive("code/dash", tar::EntryType::Regular, "");
    build("source_packaged", &file, "into = \"/usr/bin\"\nstrip = 1");
}

/// A project whose role takes `path` of `image` from a registry, which tells of it what `lie` makes of
/// its server.
fn with_image(image: &Image, path: &str, lie: impl Fn(&Server)) -> Option<(Archive, Project)> {
    let base = base()?;
    let server = Server::start();
    image.serve(&server, "app");
    lie(&server);
    let definition = format!(
        "[sources.code]\ntype = \"oci\"\nimage = \"{}\"\ndigest = \"sha256:{}\"\npath = \"{path}\"\n\
         into = \"/usr/share/code\"\n",
        server.url("/app"),
        image.index
    );
    let archive = Archive::with_base(base, &[]);
    let mut project = Project::on_base(base, &archive, &definition);
    // In the store that tests share, another one may have left the blobs.
    project.store = project.scratch().join("store");
    project.succeed(&["lock"]);
    Some((archive, project))
}

fn image() -> Image {
    Image::new(vec![layer(&[
        ("srv/app/su", 0o4755, "a program"),
        ("srv/lib", 0o777, "-> app"),
        ("srv/key", 0o777, "-> /etc/shadow"),
    ])])
}

#[test]
fn a_registry_that_lies() {
    let image = image();
    let manifest = format!("/v2/app/manifests/sha256:{}", image.index);
    let blob = format!("/v2/app/blobs/sha256:{}", image.layers[0]);
    let wrong = |server: &Server| drop(server.file(&manifest, "another index"));
    let Some((_archive, project)) = with_image(&image, "/srv/app", wrong) else { return };
    refused("source_image_other_index", &project, &["build", "app"]);
    let wrong = |server: &Server| server.faults(&blob, std::iter::repeat_n(Fault::Corrupt, 9));
    let Some((_archive, project)) = with_image(&image, "/srv/app", wrong) else { return };
    refused("source_image_other_layer", &project, &["build", "app"]);
    let wrong = |server: &Server| drop(server.file(&blob, "short"));
    let Some((_archive, project)) = with_image(&image, "/srv/app", wrong) else { return };
    refused("source_image_short_layer", &project, &["build", "app"]);
    let closed =
        |server: &Server| server.protect("/v2/", "x", "Bearer realm=\"file:///etc/passwd\"");
    let Some((_archive, project)) = with_image(&image, "/srv/app", closed) else { return };
    refused("source_image_no_token", &project, &["build", "app"]);
}

#[test]
fn a_part_that_no_image_may_have() {
    let image = image();
    for (name, path) in [
        ("source_image_set_id", "/srv/app"),
        ("source_image_no_path", "/srv/moodle"),
        ("source_image_behind_link", "/srv/lib/su"),
    ] {
        let Some((_archive, project)) = with_image(&image, path, |_| ()) else { return };
        refused(name, &project, &["build", "app"]);
    }
}

#[test]
fn a_layout_without_the_image() {
    let Some((_archive, project)) = with_image(&image(), "/srv/app", |_| ()) else { return };
    let layout = project.scratch().join("layout");
    Image::new(Vec::new()).layout(&layout);
    let given = format!("code={}", layout.display());
    refused("source_image_not_in_layout", &project, &["build", "app", "--source", &given]);
}

/// A project whose only role has a package as a source, never locked.
fn with_package(urls: &[String], pin: &str) -> (Archive, Project) {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let source = format!("[sources.vendor]\ntype = \"package\"\nurls = {urls:?}\n{pin}\n");
    let project = Project::small(&archive, r#"["web", "vendor-app"]"#, &source);
    (archive, project)
}

#[test]
fn a_package_that_cannot_be_locked() {
    let server = Server::start();
    let deb = Package::new("vendor-app", "1.0").deb();
    let wrong = server.file("/wrong.deb", "<html>moved</html>");
    let urls = [server.url("/gone.deb"), wrong];
    let (_archive, project) = with_package(&urls, &pin(&deb));
    refused("package_unreachable", &project, &["lock"]);
    refused("package_offline", &project, &["lock", "--offline"]);
    refused("package_no_file", &project, &["lock", "--source", "vendor=nothing.deb"]);
    std::fs::write(project.scratch().join("other.deb"), Package::new("vendor-app", "2.0").deb())
        .unwrap();
    let other = format!("vendor={}", project.scratch().join("other.deb").display());
    refused("package_other", &project, &["lock", "--source", &other]);
    let page = b"<html>moved</html>";
    let (_archive, project) = with_package(&[server.url("/wrong.deb")], &pin(page));
    refused("package_is_none", &project, &["lock"]);
    let how = "unverified = \"ask its authors for the SHA-256\"";
    let (_archive, project) = with_package(&urls, how);
    refused("package_unverified", &project, &["lock"]);
    let (_archive, project) = locked(&source(&urls, &pin(b"the code"), INTO));
    refused("package_is_archive", &project, &["lock", "--source", "code=code.tar"]);
}
