//! Who the server is, and what the token may do.

use std::io::Write;
use std::ops::ControlFlow;

use imgbuild::digest::Digest;
use imgbuild::proxmox::{Client, Content, Fingerprint, Reason, Trust, Upload};

use crate::pve::{self, Certificate, Fault, Flavour, Pve, When};
use crate::{BOTH, Generated, filled, hand_over, machine};

#[test]
fn a_server_that_cannot_prove_who_it_is_gets_nothing() {
    let trust = |pve: &Pve| Trust::authorities(pve.authority().as_bytes()).unwrap();
    let met = |pve: &Pve, trust: &Trust, words: &str| {
        let client = Client::new(&pve.url(), trust, pve.token().parse().unwrap()).unwrap();
        let error = client.version().unwrap_err();
        let Reason::Untrusted { met, .. } = error.reason() else { panic!("{error}") };
        assert_eq!(*met, Some(pve.fingerprint()));
        let text = error.to_string();
        assert!(text.contains(words) && text.contains(&pve.fingerprint().to_string()), "{text}");
        assert!(pve.seen().is_empty());
    };
    let good = Pve::start(Flavour::V9);
    let expired = Pve::with_certificate(Flavour::V9, Certificate::Expired);
    let other = Pve::with_certificate(Flavour::V9, Certificate::OtherHost);
    met(&good, &Trust::Certificate(Fingerprint::of(b"x")), "not the certificate that was expected");
    met(&good, &trust(&other), "none of the authorities");
    met(&good, &Trust::Public, "none of the authorities");
    met(&expired, &trust(&expired), "expired");
    met(&other, &trust(&other), "not valid for name");
    // By its fingerprint a server is known whatever its certificate says of itself.
    for pve in [&expired, &other, &good] {
        assert!(pve.client().version().is_ok());
    }
    let client = Client::new(&good.url(), &trust(&good), good.token().parse().unwrap()).unwrap();
    assert!(client.version().is_ok());
    let localhost = good.url().replace("127.0.0.1", "localhost");
    let client = Client::new(&localhost, &trust(&good), good.token().parse().unwrap()).unwrap();
    assert!(client.version().is_ok());
}

#[test]
fn what_is_no_proxmox_is_said_to_be_none() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
    });
    let token = format!("{}={}", pve::TOKEN, pve::SECRET).parse().unwrap();
    let client = Client::new(&url, &Trust::Public, token).unwrap().at_pace(pve::hasty());
    let error = client.version().unwrap_err();
    assert!(
        matches!(error.reason(), Reason::Untrusted { met: None, .. } | Reason::Unreachable),
        "{error:?}"
    );
    thread.join().unwrap();
    let pve = Pve::start(Flavour::V9);
    pve.plan(When::Request(1), Fault::Garbage("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html"));
    let error = pve.client().version().unwrap_err();
    assert_eq!(*error.reason(), Reason::Garbled, "{error}");
}

#[test]
fn a_token_without_rights_is_told_which_it_needs() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let secret = "ffffffff-89ab-4cde-8f01-23456789abcd";
        let wrong = format!("{}={secret}", pve::TOKEN).parse().unwrap();
        let stranger =
            Client::new(&pve.url(), &Trust::Certificate(pve.fingerprint()), wrong).unwrap();
        let error = stranger.version().unwrap_err();
        assert_eq!(*error.reason(), Reason::Unauthorized);
        assert_eq!(error.message(), "invalid token value!");
        assert!(!format!("{error:?}{error}").contains("ffffffff"));
        for acl in &mut pve.cluster().acl {
            acl.privileges.remove("VM.Config.Disk");
            acl.privileges.remove("Datastore.AllocateTemplate");
        }
        let error = hand_over(&client, &machine(4001), "scsi1", &machine(4002)).unwrap_err();
        let expected = Reason::Forbidden {
            path: "/vms/4001".to_owned(),
            privilege: "VM.Config.Disk".to_owned(),
        };
        assert_eq!(*error.reason(), expected, "{error}");
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(help.contains("VM.Config.Disk") && help.contains("/vms/4001"), "{help}");
        // The refusal comes before the file is read to its end.
        let upload = Upload {
            node: &pve.node(),
            storage: &"local".parse().unwrap(),
            content: Content::Import,
            name: "x.qcow2",
            size_bytes: 1 << 40,
            digest: Digest::of(""),
        };
        let mut endless = Generated::new(1 << 40);
        let error =
            client.upload(&upload, &mut endless, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error.reason(), Reason::Forbidden { .. }), "{error}");
    }
}
