//! A guest made of the image, in a container.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::lab::{Guest, Lab, succeed, wait_for};
use crate::{SECRET, TURN};

/// What a guest made of the template does, as an unprivileged container.
pub fn boot(template: &Path) {
    let lab = Lab::up("bbb", &["10.20.50.1/24"]);
    let certificate = tempfile::tempdir().unwrap();
    let file = |name: &str| certificate.path().join(name);
    succeed(
        Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ed25519",
                "-nodes",
                "-subj",
                "/CN=bbb1.campus.example",
            ])
            .arg("-keyout")
            .arg(file("key"))
            .arg("-out")
            .arg(file("cert"))
            .stderr(Stdio::null()),
    );
    let pem = |name: &str| fs::read_to_string(file(name)).unwrap();
    let (cert, key) = (pem("cert"), pem("key"));
    let secrets =
        [("bbb.secret", SECRET), ("bbb.turn", TURN), ("bbb.cert", &cert), ("bbb.key", &key)];
    let secrets = lab.secrets("bbb1", &secrets);
    let (volume, docker) = (lab.volume("bbb"), lab.volume("docker"));
    // The store, as `files` makes it: 1000 is Scalelite, 2000 whoever may read what is left for it.
    let store = lab.volume("recordings");
    let spool = store.join("spool");
    fs::create_dir(&spool).unwrap();
    chown(&spool, Some(101_000), Some(102_000)).unwrap();
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o2775)).unwrap();
    let guest = lab.create(
        "bbb1",
        template,
        "10.20.50.11/24",
        "10.20.50.1",
        &[
            (&secrets, "/etc/imgbuild/secrets"),
            (&volume, "/var/bigbluebutton"),
            (&docker, "/var/lib/docker"),
            (&store, "/srv/recordings"),
        ],
    );
    assert_eq!(guest.boot(), "running", "{}", guest.run("systemctl --failed --no-pager"));
    assert!(guest.run("cat /run/imgbuild/node.env").contains("NODE_NAME=bbb1"));
    assert!(guest.run("ip -brief address show eth0").contains("10.20.50.11/24"));
    is_ready(&guest);
    is_sealed(&guest);
    lets_in(&lab, &guest);
    let made_up = "grep -rIl imgbuildplaceholder /etc /opt /usr/local/bigbluebutton /usr/share/b* /var/lib/redis; true";
    assert_eq!(guest.run(made_up), "");
    assert_eq!(guest.run("cat /run/hasura"), "metadata apply --skip-update-check");
    // The same key on both sides.
    guest.run("grep -qF \"$(cat /usr/share/etherpad-lite/APIKEY.txt)\" /usr/local/bigbluebutton/bbb-pads/config/settings.json");
    let fetched = "pull --quiet bigbluebutton/bbb-libreoffice:7.6.2\nimage tag bigbluebutton/bbb-libreoffice:7.6.2 bbb-soffice:7.6.2";
    assert_eq!(guest.run("cat /var/lib/docker/calls"), fetched);
    hands_over_a_recording(&guest, &spool);
    drains(&guest);

    // The next guest on the same volumes: what is on them is there, and nothing else.
    let esl = "grep password /opt/freeswitch/etc/freeswitch/autoload_configs/event_socket.conf.xml";
    let before = guest.run(esl);
    guest
        .run("redis-cli set imgbuild:kept yes && echo sound > /var/freeswitch/meetings/sound.opus");
    guest.stop();
    assert_eq!(guest.boot(), "running");
    is_ready(&guest);
    assert_eq!(
        guest.run("redis-cli get imgbuild:kept && cat /var/freeswitch/meetings/sound.opus"),
        "yes\nsound"
    );
    assert_ne!(guest.run(esl), before);
    let owner = guest
        .run("stat -c %U:%G /var/freeswitch/meetings /var/bigbluebutton/recording/status/recorded");
    assert_eq!(owner, "freeswitch:daemon\nbigbluebutton:bigbluebutton");
    // What was fetched is not fetched again.
    assert_eq!(guest.run("grep -c ^pull /var/lib/docker/calls"), "1");
}

fn is_ready(guest: &Guest<'_>) {
    // The guest has started before its programs answer.
    for question in ["live", "ready"] {
        wait_for(&format!("BigBlueButton to be {question}"), || {
            let asked = guest.attempt(&format!("/usr/lib/imgbuild/bbb-{question}"));
            asked.status.success().then_some(())
        });
    }
    assert_eq!(guest.run("systemctl --failed --no-legend"), "");
}

/// Nothing is written to the image. Where BigBlueButton writes, it is gone at the next start.
fn is_sealed(guest: &Guest<'_>) {
    for path in ["/usr/bin", "/usr/share", "/usr/local/bin", "/opt", "/srv"] {
        assert!(!guest.attempt(&format!(": > {path}/.written")).status.success(), "{path}");
    }
    for path in
        ["/etc", "/var/lib", "/opt/freeswitch", "/usr/share/bbb-web", "/usr/local/bigbluebutton"]
    {
        guest.run(&format!("[ ! -e {path}/.written ] && : > {path}/.written"));
    }
}

/// The world reaches the client and the media ports, and nothing else that listens.
fn lets_in(lab: &Lab, guest: &Guest<'_>) {
    let rules = guest.run("nft list chain inet imgbuild input");
    for rule in ["policy drop", "tcp dport 443 accept", "udp dport 16384-32768 accept"] {
        assert!(rules.contains(rule), "{rule}: {rules}");
    }
    guest.run("systemd-run --quiet ruby -rsocket -e 'TCPServer.new(\"0.0.0.0\", 9001); sleep'");
    wait_for("a stranger to listen", || guest.run("ss -lnt").contains(":9001").then_some(()));
    let reach = |port: u16| {
        let address = format!("10.20.50.11:{port}").parse().unwrap();
        let connect = move || TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok();
        lab.on_network(connect).join().unwrap()
    };
    assert!(reach(80) && reach(443));
    assert!(!reach(9001));
    assert!(!reach(5432) && !reach(6379));
}

/// What BigBlueButton does once a recording is published.
fn hands_over_a_recording(guest: &Guest<'_>, spool: &Path) {
    let published = "/var/bigbluebutton/published/presentation/meeting-1";
    let scripts = "/usr/local/bigbluebutton/core/scripts";
    let run = "runuser -u bigbluebutton --";
    guest.run(&format!(
        "{run} mkdir -p {published} && echo recorded | {run} tee {published}/metadata.xml"
    ));
    guest.run(&format!(
        "cd {scripts} && {run} ruby post_publish/scalelite_post_publish.rb -m meeting-1 -f presentation"
    ));
    let left = spool.join("meeting-1.tar");
    let about = fs::metadata(&left).unwrap();
    // Scalelite may read it, and take it out of the spool, which is its own.
    assert_eq!((about.uid(), about.gid(), about.mode() & 0o044), (103_000, 102_000, 0o044));
    let mut archive = tar::Archive::new(fs::File::open(left).unwrap());
    let names: Vec<_> =
        archive.entries().unwrap().map(|it| it.unwrap().path().unwrap().into_owned()).collect();
    assert!(names.contains(&PathBuf::from("presentation/meeting-1/metadata.xml")), "{names:?}");
}

/// No meeting begins, and the guest is drained once nothing is queued.
fn drains(guest: &Guest<'_>) {
    guest.run("/usr/lib/imgbuild/drain");
    guest.run(
        "redis-cli sadd resque:queues rap:archive && redis-cli rpush resque:queue:rap:archive job",
    );
    let drained = guest.attempt("/usr/lib/imgbuild/drained");
    assert!(!drained.status.success(), "{drained:?}");
    guest.run("redis-cli del resque:queue:rap:archive && /usr/lib/imgbuild/drained");
}
