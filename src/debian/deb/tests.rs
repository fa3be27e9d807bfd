use std::io::Write as _;
use std::path::Path;

use proptest::prelude::*;
use tar::EntryType;

use super::testing::{Builder, ar_member, header, tar};
use super::*;

/// The paths of the data archive, or the first error.
fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let deb = Deb::open(file.path())?;
    let mut found = Vec::new();
    deb.visit_data(|member, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(|error| deb.read_error(error))?;
        found.push((String::from_utf8(member.path).unwrap(), bytes));
        Ok::<_, Error>(())
    })?;
    Ok(found)
}

fn package() -> Builder {
    Builder::new("x", "").directory("./", 0o755).directory("./usr/", 0o755).file(
        "./usr/file",
        0o644,
        "content",
    )
}

#[test]
fn packages_of_every_compression_are_read() {
    for extension in ["", ".gz", ".xz", ".zst"] {
        let bytes = Builder { extension, ..package() }.bytes();
        let found = read(&bytes).unwrap();
        let expected = [("/.", ""), ("/usr", ""), ("/usr/file", "content")];
        let expected = expected.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
        assert_eq!(found, expected, "{extension}");
    }
}

#[test]
fn a_package_cut_off_anywhere_is_an_error() {
    for extension in ["", ".xz"] {
        let bytes = Builder { extension, ..package() }.bytes();
        for length in (0..bytes.len()).step_by(97) {
            assert!(read(&bytes[..length]).is_err(), "{extension} {length}");
        }
    }
}

#[test]
fn members_that_dpkg_refuses_or_that_leave_the_root_are_refused() {
    let odd = |path: &str, kind: u8| {
        package().record(header(path, EntryType::new(kind), 0o644, 0), Vec::new())
    };
    for (problem, builder) in [
        ("`..`", package().file("../x", 0o644, "")),
        ("`..`", package().file("./usr/../../x", 0o644, "")),
        ("absolute name", package().file("/usr/x", 0o644, "")),
        ("`..`", package().file("./usr/..", 0o644, "")),
        ("line end", package().file("./a\nb", 0o644, "")),
        ("empty component", package().file("./usr//x", 0o644, "")),
        ("absolute name", package().file("/etc/x", 0o644, "")),
        ("below /way", package().symlink("./way", "/tmp").file("./way/x", 0o644, "")),
        ("`..`", package().hardlink("./link", "../../etc/shadow")),
        ("points nowhere", package().symlink("./link", "")),
        ("device", odd("./dev", b'3')),
        ("device", odd("./dev", b'4')),
        ("pipe", odd("./pipe", b'6')),
        ("pax", odd("./x", b'x')),
        ("pax", odd("./x", b'g')),
        ("unknown tar type", odd("./x", b'S')),
        ("bytes", package().record(header("x", EntryType::GNULongName, 0, 5000), vec![b'a'; 5000])),
        ("has content", package().record(header("x", EntryType::Directory, 0, 4), vec![0; 4])),
    ] {
        match read(&builder.bytes()) {
            Err(Error::Member { problem: found, .. }) if found.contains(problem) => {}
            other => panic!("{problem}: {other:?}"),
        }
    }
}

#[test]
fn long_names_and_targets_of_gnu_tar_are_joined() {
    let name = format!("./usr/{}", "n".repeat(200));
    let builder = package()
        .record(
            header("././@LongLink", EntryType::GNULongName, 0, name.len() + 1),
            [name.as_bytes(), b"\0"].concat(),
        )
        .file("./usr/nnn", 0o644, "long");
    let found = read(&builder.bytes()).unwrap();
    assert_eq!(found.last().unwrap(), &(name[1..].to_owned(), b"long".to_vec()));
}

#[test]
fn sizes_beyond_the_file_are_refused() {
    let mut lying = header("./big", EntryType::Regular, 0o644, 0);
    lying.set_size(1 << 40);
    assert!(read(&package().record(lying, Vec::new()).bytes()).is_err());
    let mut bytes = b"!<arch>\n".to_vec();
    ar_member(&mut bytes, "debian-binary", b"2.0\n");
    let text = format!("{:<16}{:<32}{:<10}`\n", "control.tar", "", "9999999999");
    bytes.extend_from_slice(text.as_bytes());
    assert!(matches!(read(&bytes), Err(Error::Format { .. })));
}

#[test]
fn an_archive_that_expands_without_end_is_refused() {
    let zeros = vec![0; (CONTROL_LIMIT + 4096) as usize];
    let size = header("templates", EntryType::Regular, 0o644, zeros.len());
    let mut builder = Builder { extension: ".zst", ..package() };
    builder.control.push((size, zeros));
    assert!(matches!(read(&builder.bytes()), Err(Error::TooLarge { .. })));
}

#[test]
fn a_small_package_that_fills_a_disk_is_refused() {
    let size = 512 << 20;
    let mut big = header("./big", EntryType::Regular, 0o644, 0);
    big.set_size(size);
    big.set_cksum();
    let zeros = std::io::repeat(0).take(size);
    let data = zstd::encode_all(big.as_bytes().chain(zeros), 1).unwrap();
    let mut bytes = b"!<arch>\n".to_vec();
    for (member, content) in [
        ("debian-binary", b"2.0\n".as_slice()),
        ("control.tar", &tar(&package().control)),
        ("data.tar.zst", &data),
    ] {
        ar_member(&mut bytes, member, content);
    }
    match read_nothing(&bytes) {
        Err(Error::TooLarge { limit, .. }) => assert!(limit < size, "{limit}"),
        other => panic!("{other:?}"),
    }
}

/// Reads a package, but none of its content.
fn read_nothing(bytes: &[u8]) -> Result<(), Error> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Deb::open(file.path())?.visit_data(|_, _| Ok::<_, Error>(()))
}

/// Each was compared with all before it: this would not end.
#[test]
fn many_control_files_and_many_links_are_read_in_time() {
    let mut builder = package();
    for number in 0..40_000 {
        let mut header = header(&format!("f{number}"), EntryType::Regular, 0o644, 0);
        header.set_cksum();
        builder.control.push((header, Vec::new()));
    }
    let deep = "a/".repeat(45);
    for number in 0..20_000 {
        builder = match number % 2 {
            0 => builder.symlink(&format!("./{deep}{number}"), "x"),
            _ => builder.file(&format!("./{deep}{number}"), 0o644, ""),
        };
    }
    read_nothing(&builder.bytes()).unwrap();
}

#[test]
fn a_member_below_a_link_is_refused_whatever_other_links_there_are() {
    let links = || package().symlink("./way/on", "x").symlink("./way", "y").symlink("./way-", "z");
    for (path, expected) in [
        ("./way/on/x", Some("/way,")),
        ("./way/o", Some("/way,")),
        ("./way-/a/b", Some("/way-,")),
        ("./way--", None),
        ("./wa", None),
    ] {
        let found = read(&links().file(path, 0o644, "").bytes());
        match (expected, found) {
            (None, Ok(_)) => {}
            (Some(link), Err(Error::Member { problem, .. })) if problem.contains(link) => {}
            (_, found) => panic!("{path}: {found:?}"),
        }
    }
}

#[test]
fn the_order_of_members_is_that_of_deb_5() {
    let archive = tar(&package().control);
    type Members<'a> = &'a [(&'a str, &'a [u8])];
    let cases: [(&str, Members<'_>); 6] = [
        ("no version", &[("control.tar", &archive), ("data.tar", &archive)]),
        ("version 3", &[("debian-binary", b"3.0\n"), ("control.tar", &archive)]),
        ("data first", &[("debian-binary", b"2.0\n"), ("data.tar", &archive)]),
        ("no data", &[("debian-binary", b"2.0\n"), ("control.tar", &archive)]),
        ("bzip2", &[("debian-binary", b"2.0\n"), ("control.tar", &archive), ("data.tar.bz2", b"")]),
        ("other", &[("debian-binary", b"2.0\n"), ("control.tar", &archive), ("x", b"")]),
    ];
    for (name, members) in cases {
        let mut bytes = b"!<arch>\n".to_vec();
        for (member, content) in members {
            ar_member(&mut bytes, member, content);
        }
        assert!(read(&bytes).is_err(), "{name}");
    }
    let mut bytes = b"!<arch>\n".to_vec();
    for (member, content) in [
        ("debian-binary", b"2.7\nmore".as_slice()),
        ("_gpgorigin", b"odd"),
        ("control.tar/", &archive),
        ("_other", b""),
        ("data.tar", &tar(&package().data)),
    ] {
        ar_member(&mut bytes, member, content);
    }
    assert_eq!(read(&bytes).unwrap().len(), 3);
}

#[test]
fn control_archives_are_flat_and_have_a_control_file() {
    let mut without = package();
    without.control.clear();
    assert!(matches!(read(&without.bytes()), Err(Error::Format { .. })));
    for builder in [
        package().control("sub/postinst", ""),
        package().control("postinst", "").control("postinst", ""),
        package().control(&"n".repeat(51), ""),
    ] {
        assert!(matches!(read(&builder.bytes()), Err(Error::Member { .. })));
    }
    assert!(read(&package().control("with.dot", "").bytes()).is_ok());
    assert!(matches!(Deb::open(Path::new("/nonexistent")), Err(Error::Read { .. })));
}

proptest! {
    #[test]
    fn damaged_packages_never_make_the_reader_panic(position: prop::sample::Index, value: u8,
                                                    compressed: bool) {
        let extension = if compressed { ".gz" } else { "" };
        let mut bytes = Builder { extension, ..package() }.bytes();
        let position = position.index(bytes.len());
        bytes[position] = value;
        let _ = read(&bytes);
    }
}
