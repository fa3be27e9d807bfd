//! The disk of a small role, as Proxmox VE and its tools see it. It starts nothing; real ones are booted in
//! `boot_disk.rs`.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imgbuild::artifact::manifest::{Disk, Manifest, Partition};
use imgbuild::artifact::name::Format;
use imgbuild::digest::Digest;
use support::archive::Archive;
use support::base::{Base, base};
use support::machine;
use support::package::Package;
use support::project::Project;

const SECTOR: u64 = 512;
const GIBIBYTE: u64 = 1 << 30;

const APP: &str = "[packages]\ninstall = [\"app\"]\n\
                   [parameters.greeting]\ntype = \"string\"\ndefault = \"hello\"\ndoc = \"Said first\"\n\
                   [[state]]\npath = \"/var/lib/app\"\nmode = \"0750\"\ndoc = \"What it knows\"\n";

fn packages() -> Vec<Package> {
    let app = Package::new("app", "1.0").directory("var/lib/app").file("usr/lib/app/x", "x");
    [app].into_iter().chain(machine::packages()).collect()
}

fn project(base: &Base, archive: &Archive) -> Project {
    let project = Project::on_base(base, archive, APP);
    project.write("images/app/files/etc/app.conf.hbs", "greeting = {{greeting}}\n");
    project.add_machine();
    project.succeed(&["lock"]);
    project
}

/// The artifact of a format in the project's `out`, with its manifest.
#[track_caller]
fn artifact(project: &Project, format: Format) -> (PathBuf, Manifest) {
    let manifests = project.artifacts().into_iter().filter(|name| name.ends_with(".json"));
    let manifests = manifests.map(|name| {
        Manifest::from_json(&fs::read_to_string(project.out().join(name)).unwrap()).unwrap()
    });
    let mut found = manifests.filter(|manifest| manifest.artifact.format == format);
    let manifest = found.next().expect("an artifact of the format");
    assert!(found.next().is_none(), "several artifacts of one format");
    (project.out().join(&manifest.artifact.name), manifest)
}

fn disk(project: &Project) -> (PathBuf, Manifest, Disk) {
    let (path, manifest) = artifact(project, Format::Qcow2);
    let disk = manifest.disk.clone().expect("the manifest of a disk tells about the disk");
    (path, manifest, disk)
}

/// Runs a tool of the host, or tells that it is not there.
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn tool(program: &str, arguments: &[&str], path: &Path) -> Option<String> {
    match Command::new(program).args(arguments).arg(path).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {arguments:?}: {text}{errors}");
            Some(text)
        }
        Err(error) => {
            eprintln!("skipped: {program}: {error}");
            None
        }
    }
}

/// What is on a disk, byte for byte, as `qm importdisk` writes it to a volume.
fn raw(disk: &Path) -> Option<Vec<u8>> {
    let raw = disk.with_extension("raw");
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "qcow2", "-O", "raw"])
        .args([disk, &raw])
        .status();
    match status {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            let _ = tool("qemu-img", &[], disk).ok_or(error);
            return None;
        }
    }
    let bytes = fs::read(&raw).unwrap();
    fs::remove_file(raw).unwrap();
    Some(bytes)
}

fn content<'a>(raw: &'a [u8], partition: &Partition) -> &'a [u8] {
    let start = usize::try_from(partition.first_sector * SECTOR).unwrap();
    &raw[start..start + usize::try_from(partition.sectors * SECTOR).unwrap()]
}

#[test]
fn both_formats_are_made_of_the_same_layers() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let project = project(base, &archive);
    let printed = project.succeed(&["build", "app"]);
    let (template, of_template) = artifact(&project, Format::LxcTemplate);
    let (path, of_disk, disk) = disk(&project);
    let printed: Vec<PathBuf> = printed.lines().map(|line| project.path().join(line)).collect();
    assert_eq!(printed, [template, path]);
    let layers =
        |manifest: &Manifest| manifest.layers.iter().map(|layer| layer.digest).collect::<Vec<_>>();
    let on_disk: BTreeSet<_> = layers(&of_disk).into_iter().collect();
    assert!(layers(&of_template).iter().all(|layer| on_disk.contains(layer)));
    assert_eq!(of_template.layers.last(), of_disk.layers.last(), "the role's own files come last");
    assert_eq!(disk.image, of_template.digest);
    assert_ne!(of_disk.digest, of_template.digest, "a new kernel must give a disk a new name");
    let names: Vec<String> = of_disk
        .layers
        .iter()
        .map(|layer| format!("{} {}", layer.image, layer.kind.name()))
        .collect();
    let expected =
        ["base packages", "app packages", "machine packages", "machine files", "app files"];
    assert_eq!(names, expected);
    assert!(of_disk.packages.iter().any(|package| package.name == "linux"));
    assert!(!of_template.packages.iter().any(|package| package.name == "devices"));
    assert_eq!(of_disk.states[0].name, "app");
}

/// The layers of the machine lie among those of the role, and make the disk all the same.
#[test]
fn a_disk_that_was_just_built_verifies_and_one_with_another_layer_does_not() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let project = project(base, &archive);
    let printed = project.succeed(&["build", "app"]);
    let artifacts: Vec<&str> = printed.lines().collect();
    project.succeed(&[&["verify", "--integrity"], &artifacts[..]].concat());

    let (path, manifest, _) = disk(&project);
    for place in 0..manifest.layers.len() {
        let mut other = manifest.clone();
        other.layers[place].digest = Digest::of("another layer");
        let name = path.file_stem().unwrap().to_string_lossy();
        fs::write(project.out().join(format!("{name}.manifest.json")), other.to_json()).unwrap();
        let ended = project.run(&["verify", "--integrity", path.to_str().unwrap()]);
        assert_eq!(ended.code, 3, "{}", ended.stderr);
        assert!(ended.stdout.contains("its layers do not make the image"), "{}", ended.stdout);
    }
}

#[test]
fn a_format_can_be_asked_for_alone() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let project = project(base, &archive);
    project.succeed(&["build", "app", "--format", "lxc"]);
    assert_eq!(project.artifacts().len(), 2);
    let (template, _) = artifact(&project, Format::LxcTemplate);
    fs::remove_dir_all(project.out()).unwrap();
    project.succeed(&["build", "app", "--format", "qcow2"]);
    assert_eq!(project.artifacts().len(), 2);
    disk(&project);
    project.succeed(&["build", "app", "--format", "qcow2,lxc"]);
    assert_eq!(artifact(&project, Format::LxcTemplate).0, template);
    let ended = project.run(&["build", "app", "--format", "vmdk"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("[possible values: lxc, qcow2]"), "{}", ended.stderr);
}

/// The rules of an image that Proxmox VE imports: those that it checks itself
/// (`PVE::Storage::Plugin::file_size_info`, untrusted), and those that nobody checks.
#[test]
fn the_disk_is_what_proxmox_imports() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let project = project(base, &archive);
    project.succeed(&["build", "app", "--format", "qcow2"]);
    let (path, _, disk) = disk(&project);
    let name = path.file_name().unwrap().to_str().unwrap();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    assert!(name.bytes().all(allowed) && name.ends_with(".qcow2"), "{name}");
    assert_eq!(disk.virtual_size % GIBIBYTE, 0);

    let Some(info) = tool("qemu-img", &["info", "-f", "qcow2", "--output=json"], &path) else {
        return;
    };
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let specific = &info["format-specific"]["data"];
    assert_eq!(info["virtual-size"], disk.virtual_size);
    assert_eq!(specific["compat"], "1.1", "version 3");
    assert_eq!(specific["compression-type"], "zstd");
    assert_eq!(specific["corrupt"], false);
    for absent in ["backing-filename", "full-backing-filename", "snapshots", "encrypted"] {
        assert!(info.get(absent).is_none(), "{absent}: {}", info[absent]);
    }
    for absent in ["data-file", "encrypt", "bitmaps"] {
        assert!(specific.get(absent).is_none(), "{absent}: {}", specific[absent]);
    }
    let check = tool("qemu-img", &["check", "-f", "qcow2", "--output=json"], &path).unwrap();
    let check: serde_json::Value = serde_json::from_str(&check).unwrap();
    for absent in ["corruptions", "leaks", "check-errors"] {
        assert!(check.get(absent).is_none_or(|count| count == 0), "{absent}: {check}");
    }
    // What `qm importdisk` and `import-from` do, to both formats that storages have.
    for format in ["raw", "qcow2"] {
        let copy = project.scratch().join(format!("copy.{format}"));
        let convert = ["convert", "-p", "-f", "qcow2", "-O", format, path.to_str().unwrap()];
        tool("qemu-img", &convert, &copy).unwrap();
        let compare = ["compare", "-f", "qcow2", "-F", format, path.to_str().unwrap()];
        let said = tool("qemu-img", &compare, &copy).unwrap();
        assert!(said.contains("Images are identical"), "{said}");
        fs::remove_file(copy).unwrap();
    }
    let raw_path = project.scratch().join("disk.raw");
    fs::write(&raw_path, raw(&path).unwrap()).unwrap();
    if let Some(said) = tool("sgdisk", &["-v"], &raw_path) {
        assert!(said.contains("No problems found"), "{said}");
    }
}

#[test]
fn a_changed_value_changes_the_end_of_the_disk_and_what_names_it() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let project = project(base, &archive);
    project.succeed(&["build", "app", "--format", "qcow2"]);
    let (path, _, before) = disk(&project);
    let Some(old) = raw(&path) else { return };
    fs::remove_dir_all(project.out()).unwrap();
    let definition = project.read("images/app/image.toml");
    project.write("images/app/image.toml", &definition.replace("\"hello\"", "\"good day\""));
    project.succeed(&["build", "app", "--format", "qcow2"]);
    let (path, _, after) = disk(&project);
    let new = raw(&path).unwrap();

    assert_eq!(old.len(), new.len());
    assert_eq!(before.partitions.len(), after.partitions.len());
    let last = before.partitions.len() - 1;
    for (number, (one, other)) in before.partitions.iter().zip(&after.partitions).enumerate() {
        let place = (one.first_sector, one.sectors, &one.label);
        assert_eq!(place, (other.first_sector, other.sectors, &other.label));
        // The file system of the last layer, and the list of what the guest is to believe.
        let changes = number == last || one.label == "roots";
        let same = content(&old, one) == content(&new, other);
        assert_eq!(same, !changes, "partition {}", one.label);
        assert_eq!(one.uuid == other.uuid, !changes, "partition {}", one.label);
    }
    // Between the partitions there is nothing, and at both ends the tables, which name the last layer.
    let mut covered: Vec<(u64, u64)> = before
        .partitions
        .iter()
        .map(|one| (one.first_sector, one.first_sector + one.sectors))
        .collect();
    covered.extend([(0, 34), (old.len() as u64 / SECTOR - 33, old.len() as u64 / SECTOR)]);
    covered.sort_unstable();
    for pair in covered.windows(2) {
        let [start, end] = [pair[0].1, pair[1].0].map(|sector| (sector * SECTOR) as usize);
        assert!(old[start..end].iter().chain(&new[start..end]).all(|byte| *byte == 0));
    }
}

#[test]
fn without_a_machine_definition_there_are_templates_only() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let project = Project::on_base(base, &archive, APP);
    project.write("images/app/files/etc/app.conf.hbs", "greeting = {{greeting}}\n");
    project.succeed(&["lock"]);
    let ended = project.run(&["build", "app", "--format", "qcow2"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("`app` cannot become a disk"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--format lxc"), "{}", ended.stderr);
    assert!(project.artifacts().is_empty());
    project.succeed(&["build", "app"]);
    artifact(&project, Format::LxcTemplate);
    assert_eq!(project.artifacts().len(), 2);
}

#[test]
fn a_boot_image_that_leaves_something_out_is_refused() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let project = project(base, &archive);
    project.append("images/kernel/files/usr/lib/imgbuild/make-boot", "rm core.img\n");
    let ended = project.run(&["build", "app", "--format", "qcow2"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("boot/imgbuild/core.img"), "{}", ended.stderr);
    assert!(project.artifacts().is_empty());
}
