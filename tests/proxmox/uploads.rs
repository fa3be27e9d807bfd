//! Uploads.

use std::ops::ControlFlow;
use std::time::Duration;

use imgbuild::digest::Digest;
use imgbuild::proxmox::{Content, Reason, Upload};

use crate::pve::{Fault, Flavour, Pve, When};
use crate::{BOTH, Generated, upload_bytes, wait};

#[test]
fn a_storage_without_the_content_type_refuses_the_upload() {
    for flavour in BOTH {
        let pve = Pve::start(flavour);
        pve.cluster().storages.get_mut("local").unwrap().content.remove("import");
        let error = upload_bytes(&pve.client(), Content::Import, "x.qcow2", b"x").unwrap_err();
        assert_eq!(error.message(), "storage 'local' does not support 'import' content");
        let error = upload_bytes(&pve.client(), Content::Import, "x y.qcow2", b"x").unwrap_err();
        assert!(matches!(error.reason(), Reason::Parameters(_)), "{error}");
    }
}

#[test]
fn uploads_arrive_byte_by_byte() {
    let pve = Pve::start(Flavour::V9);
    let client = pve.client();
    for size in [0, 1, 100, 15_000, 16_384, 16_385, 300_000, 3_000_000] {
        let bytes: Vec<u8> = (0..size).map(|index: u32| (index % 251) as u8).collect();
        let name = format!("x-{size}.qcow2");
        wait(&client, upload_bytes(&client, Content::Import, &name, &bytes).unwrap()).unwrap();
        let cluster = pve.cluster();
        let stored = cluster.file("pve1", &format!("local:import/{name}")).unwrap();
        assert_eq!((stored.size, stored.digest), (size.into(), Some(Digest::of(&bytes))));
    }
    // Another digest than the file has.
    let (node, storage) = (pve.node(), "local".parse().unwrap());
    let mut upload = Upload {
        node: &node,
        storage: &storage,
        content: Content::Import,
        name: "wrong.qcow2",
        size_bytes: 3,
        digest: Digest::of("other"),
    };
    let upid =
        client.upload(&upload, &mut &b"abc"[..], &mut |_| ControlFlow::Continue(())).unwrap();
    let error = wait(&client, upid).unwrap_err();
    assert!(error.message().starts_with("checksum mismatch"), "{error}");
    // Another length.
    upload.size_bytes = 4;
    let error =
        client.upload(&upload, &mut &b"abc"[..], &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(*error.reason(), Reason::Source, "{error}");
    assert!(pve.cluster().file("pve1", "local:import/wrong.qcow2").is_none());
    // Somebody does not want it any more.
    upload.size_bytes = 3_000_000;
    let mut stop =
        |sent| if sent > 1_000_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let error = client.upload(&upload, &mut Generated::new(3_000_000), &mut stop).unwrap_err();
    assert_eq!(*error.reason(), Reason::Stopped, "{error}");
    assert!(pve.cluster().file("pve1", "local:import/wrong.qcow2").is_none());
}

#[test]
fn while_the_server_takes_nothing_the_caller_hears_of_it() {
    let pve = Pve::start(Flavour::V9);
    let client = pve.client();
    let size = 30_000_000;
    let (node, storage) = (pve.node(), "local".parse().unwrap());
    let upload = Upload {
        node: &node,
        storage: &storage,
        content: Content::Import,
        name: "slow.qcow2",
        size_bytes: size,
        digest: Digest::of_reader(Generated::new(size)).unwrap(),
    };
    pve.plan(When::Next("POST", "/upload"), Fault::Slow(Duration::from_millis(600)));
    let mut reports = Vec::new();
    let mut note = |sent| {
        reports.push(sent);
        ControlFlow::Continue(())
    };
    let upid = client.upload(&upload, &mut Generated::new(size), &mut note).unwrap();
    wait(&client, upid).unwrap();
    assert!(reports.windows(2).any(|pair| pair[0] == pair[1]), "{reports:?}");
    // Nothing was lost or doubled when the way was blocked.
    let stored = pve.cluster().file("pve1", "local:import/slow.qcow2").unwrap().digest;
    assert_eq!(stored, Some(upload.digest));
    pve.plan(When::Next("POST", "/upload"), Fault::Slow(Duration::from_millis(600)));
    let (mut last, mut stopped) = (None, false);
    let mut stop = |sent| {
        stopped = last.replace(sent) == Some(sent);
        if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let error = client.upload(&upload, &mut Generated::new(size), &mut stop).unwrap_err();
    assert_eq!(*error.reason(), Reason::Stopped, "{error}");
}

#[test]
fn a_file_goes_to_another_node_than_the_one_that_is_talked_to() {
    for flavour in BOTH {
        let pve = Pve::start(flavour);
        pve.cluster().nodes.insert("pve2".to_owned(), true);
        let client = pve.client();
        let (node, storage) = ("pve2".parse().unwrap(), "local".parse().unwrap());
        let upload = Upload {
            node: &node,
            storage: &storage,
            content: Content::Template,
            name: "x.tar.zst",
            size_bytes: 3,
            digest: Digest::of("abc"),
        };
        let go = &mut |_| ControlFlow::Continue(());
        let upid = client.upload(&upload, &mut &b"abc"[..], go).unwrap();
        assert_eq!(*upid.node(), pve.node());
        wait(&client, upid).unwrap();
        let there = |node| client.content(node, &storage, Content::Template).unwrap().len();
        assert_eq!((there(&pve.node()), there(&node)), (0, 1));
    }
}

/// Uploads so many generated bytes and gives how much more memory this took at its peak.
fn upload_large(size: u64) -> u64 {
    let pve = Pve::start(Flavour::V9);
    let client = pve.client();
    let (node, storage) = (pve.node(), "local".parse().unwrap());
    let upload = Upload {
        node: &node,
        storage: &storage,
        content: Content::Import,
        name: "large.qcow2",
        size_bytes: size,
        digest: Digest::of_reader(Generated::new(size)).unwrap(),
    };
    pve.cluster().storages.get_mut("local").unwrap().total = 1 << 50;
    let before = peak();
    let mut last = 0;
    let upid = client
        .upload(&upload, &mut Generated::new(size), &mut |sent| {
            assert!(sent >= last);
            last = sent;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(last, size);
    wait(&client, upid).unwrap();
    peak() - before
}

/// The most memory that this process had so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_large_upload_takes_little_memory() {
    assert!(upload_large(300 << 20) < 64 << 20);
}

#[test]
#[ignore = "minutes: cargo test --release --test proxmox -- --ignored a_very_large_upload"]
fn a_very_large_upload_takes_little_memory() {
    assert!(upload_large(20 << 30) < 64 << 20);
}
