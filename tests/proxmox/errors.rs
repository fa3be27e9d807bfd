//! What goes wrong, and what is done again.

use imgbuild::proxmox::{Client, ConfigChange, Guest, Lock, Reason, Trust};

use crate::pve::{self, Fault, Flavour, Pve, When};
use crate::{BOTH, filled, machine};

#[test]
fn errors_of_the_server_are_understood_wherever_they_are_written() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let guest = machine(4001);
        let cases = [
            (500, "VM is locked (migrate)", Reason::Locked(Lock::Config("migrate".to_owned()))),
            (
                500,
                "can't lock file '/var/lock/qemu-server/lock-4001.conf' - got timeout",
                Reason::Locked(Lock::Busy),
            ),
            (
                500,
                "detected modified configuration - file changed by other user? Try again.",
                Reason::Modified,
            ),
            (500, "cluster not ready - no quorum?", Reason::NoQuorum),
            (501, "Method 'POST /x' not implemented", Reason::Unsupported),
            (596, "Connection timed out", Reason::NodeUnreachable(596)),
            (500, "something else\nin two lines", Reason::Other(500)),
        ];
        for (status, message, reason) in cases {
            pve.plan(When::Next("POST", "status/start"), Fault::Refuse(status, message));
            let error = client.start(&guest).unwrap_err();
            assert_eq!(*error.reason(), reason, "{error}");
            let first = message.lines().next().unwrap();
            assert!(error.message().starts_with(first), "{error}");
            let text = error.to_string();
            assert!(text.contains("POST /nodes/pve1/qemu/4001/status/start"), "{text}");
        }
        pve.cluster().quorate = false;
        assert_eq!(*client.start(&guest).unwrap_err().reason(), Reason::NoQuorum);
        assert!(client.config(&guest).is_ok());
        pve.cluster().quorate = true;
        assert!(!client.status(&guest).unwrap().running);
    }
}

#[test]
fn only_reads_are_made_again() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let guest = machine(4001);
        pve.reset_faults();
        for fault in [Fault::Cut, Fault::CutAfter, Fault::Refuse(595, "No route to host")] {
            pve.plan(When::Next("GET", "/version"), fault);
            assert!(client.version().is_ok());
        }
        assert_eq!(pve.faults_left(), 0);
        for (fault, running) in [(Fault::Cut, false), (Fault::CutAfter, true)] {
            pve.plan(When::Next("POST", "status/start"), fault);
            let starts = pve.changes().len();
            let error = client.start(&guest).unwrap_err();
            assert_eq!(*error.reason(), Reason::Interrupted, "{error}");
            assert!(error.may_have_happened() && !error.is_transient());
            assert_eq!(pve.changes().len(), starts + 1);
            assert_eq!(client.status(&guest).unwrap().running, running);
        }
        // Nothing that listens.
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let token = pve.token().parse().unwrap();
        let nobody = Client::new(&format!("https://{closed}"), &Trust::Public, token).unwrap();
        let nobody = nobody.at_pace(pve::hasty());
        let error = nobody.stop(&guest).unwrap_err();
        assert_eq!(*error.reason(), Reason::Unreachable);
        assert!(!error.may_have_happened() && error.is_transient());
        // A node that is down.
        pve.cluster().nodes.insert("pve2".to_owned(), false);
        let there = Guest { node: "pve2".parse().unwrap(), ..guest.clone() };
        let error = client.config(&there).unwrap_err();
        assert_eq!(*error.reason(), Reason::NodeUnreachable(595));
    }
}

#[test]
fn connections_are_used_again_for_reads_only() {
    let pve = Pve::start(Flavour::V9);
    let client = pve.client();
    for _ in 0..10 {
        client.version().unwrap();
    }
    assert_eq!(pve.connections(), 1);
    let before = pve.connections();
    let wrong = client.start(&machine(4001)).unwrap_err();
    assert!(matches!(wrong.reason(), Reason::Forbidden { .. }));
    assert_eq!(pve.connections(), before + 1);
    client.version().unwrap();
}

#[test]
fn the_fake_fails_what_the_api_does_not_allow() {
    if pve::schema::schema().is_none() {
        return;
    }
    let (pve, client) = filled(Flavour::V8);
    let digest = client.config(&machine(4001)).unwrap().digest;
    for (key, value) in
        [("colour", "red"), ("onboot", "yes"), ("allow-ksm", "1"), ("net0", "virtio,bridge=a b")]
    {
        let error = client
            .configure(&machine(4001), &ConfigChange::new().set(key, value), &digest)
            .unwrap_err();
        let Reason::Parameters(errors) = error.reason() else { panic!("{error}") };
        assert!(errors.contains_key(key), "{error}");
    }
    assert_eq!(pve.take_invalid().len(), 4);
}

/// What somebody reads when a call fails.
#[test]
fn errors_say_what_to_do() {
    let (pve, client) = filled(Flavour::V9);
    let guest = machine(4001);
    let mut text = String::new();
    let mut add = |error: &imgbuild::proxmox::Error| {
        let help = miette::Diagnostic::help(error).map(|help| help.to_string());
        text += &format!("{error}\n  help: {}\n\n", help.unwrap_or_default());
    };
    for (status, message) in [
        (401, "invalid token value!"),
        (403, "Permission check failed (/vms/4001, VM.PowerMgmt)"),
        (500, "VM is locked (backup)"),
        (500, "can't lock file '/var/lock/qemu-server/lock-4001.conf' - got timeout"),
        (500, "detected modified configuration - file changed by other user? Try again."),
        (500, "cluster not ready - no quorum?"),
        (500, "Configuration file 'nodes/pve1/qemu-server/4001.conf' does not exist"),
        (500, "storage 'local' does not support 'import' content"),
        (501, "Method 'POST /x' not implemented"),
        (595, "No route to host"),
    ] {
        pve.plan(When::Next("POST", "status/start"), Fault::Refuse(status, message));
        add(&client.start(&guest).unwrap_err());
    }
    pve.plan(When::Next("POST", "status/start"), Fault::Cut);
    add(&client.start(&guest).unwrap_err());
    pve.plan(When::Next("POST", "status/start"), Fault::Garbage("HTTP/1.1 302 Found\r\n\r\n"));
    add(&client.start(&guest).unwrap_err());
    let task = pve::Fault::Task(pve::Spoil::Fails("start failed: QEMU exited with code 1"));
    pve.plan(When::Next("POST", "status/start"), task);
    let upid = client.start(&guest).unwrap();
    add(&crate::wait(&client, upid).unwrap_err());
    let other = Trust::Certificate(imgbuild::proxmox::Fingerprint::of(b"other"));
    let wrong = Client::new(&pve.url(), &other, pve.token().parse().unwrap()).unwrap();
    add(&wrong.version().unwrap_err());
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"127\.0\.0\.1:\d+", "pve1:8006");
    settings.add_filter(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", "AA:BB:…");
    settings.add_filter(r"UPID:\S+:", "UPID:…:");
    settings.bind(|| insta::assert_snapshot!(text));
}
