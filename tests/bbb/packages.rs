//! Packages that behave like those of BigBlueButton, Docker and Node.js: scripts that make up secrets, start
//! services, wait for a database and fetch things; services that do as little as a guest needs to believe them.
//! Read in `build/packages-template` of bigbluebutton/bigbluebutton.

use crate::support::package::Package;

/// A unit that a package of BigBlueButton brings.
fn unit(package: Package, name: &str, service: &str) -> Package {
    package.file(
        &format!("usr/lib/systemd/system/{name}.service"),
        &format!(
            "[Unit]\nDescription={name}, a fake\nPartOf=bigbluebutton.target\n\n[Service]\n{service}\n\n\
             [Install]\nWantedBy=multi-user.target bigbluebutton.target\n"
        ),
    )
}

/// A package with a service that only runs.
fn idle(name: &str) -> Package {
    let service = "User=bigbluebutton\nExecStart=/bin/sleep infinity";
    unit(Package::new(name, "3.0.28"), name, service)
}

/// What a server says on a loopback port, in Ruby. `good` decides on the request's `path`.
fn server(port: u16, good: &str) -> String {
    format!(
        r#"#!/usr/bin/ruby
require "digest"
require "socket"
server = TCPServer.new("127.0.0.1", {port})
loop do
  client = server.accept
  path = client.gets.to_s.split[1].to_s
  nil until client.gets.to_s.strip.empty?
  code = ({good}) ? "SUCCESS" : "FAILED"
  body = "<response><returncode>#{{code}}</returncode><meetings></meetings></response>"
  client.write("HTTP/1.0 200 OK\r\nContent-Length: #{{body.bytesize}}\r\n\r\n#{{body}}")
  client.close
end
"#
    )
}

/// Makes up the secret of the API, and starts its service.
fn web() -> Package {
    let signed = r#"secret = File.read("/etc/bigbluebutton/bbb-web.properties")[/^securitySalt=(.*)$/, 1];
    path == "/bigbluebutton/api" || path.end_with?("=" + Digest::SHA256.hexdigest("getMeetings#{secret}"))"#;
    unit(Package::new("bbb-web", "3.0.28"), "bbb-web", "User=bigbluebutton\nExecStart=/usr/share/bbb-web/fake")
        .program("usr/share/bbb-web/fake", &server(8090, signed))
        .file(
            "usr/share/bbb-web/WEB-INF/classes/bigbluebutton.properties",
            "bigbluebutton.web.serverURL=http://localhost\nsecuritySalt=changeme\n",
        )
        .file(
            "usr/share/bbb-web/WEB-INF/classes/application.properties",
            "server.servlet.session.cookie.secure=false\n",
        )
        .file(
            "etc/bigbluebutton/nginx/include_default.nginx",
            "include /usr/share/bigbluebutton/nginx/*.nginx;\n",
        )
        .file(
            "usr/share/bigbluebutton/nginx/web.nginx",
            "location /bigbluebutton { proxy_pass http://127.0.0.1:8090; }\n",
        )
        .script(
            "postinst",
            "SECRET=$(openssl rand -base64 32 | sed 's/=//g' | sed 's/+//g' | sed 's/\\///g')\n\
             sed -i \"s/securitySalt=.*/securitySalt=$SECRET/g\" \
             /usr/share/bbb-web/WEB-INF/classes/bigbluebutton.properties\n\
             systemctl start bbb-web.service || echo 'bbb-web.service could not be registered or started'",
        )
}

/// Fills a database, makes up a secret, waits until a service has opened its port.
fn graphql() -> Package {
    // Its service does not start without the database, and the password that the real one has built in.
    let service = "User=bigbluebutton\n\
        ExecStartPre=/usr/bin/psql --quiet --command='select from meeting' \
        postgresql://postgres:bbb_graphql@127.0.0.1/bbb_graphql\n\
        ExecStart=/usr/share/bbb-graphql-server/fake";
    unit(Package::new("bbb-graphql-server", "3.0.28"), "bbb-graphql-server", service)
        .program("usr/share/bbb-graphql-server/fake", &server(8085, r#"path == "/healthz""#))
        .program(
            "usr/local/bin/hasura",
            "#!/bin/sh\n[ -f metadata/tables.yaml ] && echo \"$*\" > /run/hasura\n",
        )
        .file("usr/share/bbb-graphql-server/bbb_schema.sql", "create table meeting ();\n")
        .file("usr/share/bbb-graphql-server/config.yaml", "version: 3\nadmin_secret: bigbluebutton\n")
        .file("usr/share/bbb-graphql-server/metadata/tables.yaml", "[]\n")
        .script(
            "postinst",
            "runuser -u postgres -- psql -c \"alter user postgres password 'bbb_graphql'\"\n\
             runuser -u postgres -- psql -c 'drop database if exists bbb_graphql with (force)'\n\
             if [ \"$(runuser -u postgres -- psql -tAc 'SELECT 1 FROM pg_database')\" != 1 ]; then\n\
             runuser -u postgres -- psql -c 'create database hasura_app'\nfi\n\
             SECRET=$(openssl rand -base64 32 | sed 's/=//g')\n\
             echo \"HASURA_GRAPHQL_ADMIN_SECRET=$SECRET\" > /usr/share/bbb-graphql-server/admin-secret\n\
             sed -i \"s/^admin_secret: .*/admin_secret: $SECRET/\" /usr/share/bbb-graphql-server/config.yaml\n\
             if [ ! -f /.dockerenv ]; then\n\
             for second in 1 2 3; do echo \"Waiting for Hasura's port (8085) to be ready...\"; sleep 1; done\n\
             exit 1\nfi",
        )
}

fn freeswitch() -> Package {
    let directory = "opt/freeswitch/etc/freeswitch";
    // The scheduling is what an unprivileged container may not have.
    let service = "User=freeswitch\nGroup=daemon\nIOSchedulingClass=realtime\nIOSchedulingPriority=2\n\
        CPUSchedulingPolicy=rr\nCPUSchedulingPriority=89\nExecStart=/bin/sleep infinity";
    unit(Package::new("bbb-freeswitch-core", "3.0.28"), "freeswitch", service)
        // It comes enabled.
        .directory("etc/systemd/system/multi-user.target.wants")
        .link(
            "./etc/systemd/system/multi-user.target.wants/freeswitch.service",
            "/usr/lib/systemd/system/freeswitch.service",
        )
        .directory("var/freeswitch/meetings")
        .file(
            &format!("{directory}/autoload_configs/event_socket.conf.xml"),
            "<configuration>\n  <param name=\"listen-ip\" value=\"::\"/>\n  \
             <param name=\"password\" value=\"ClueCon\"/>\n</configuration>\n",
        )
        .file(
            &format!("{directory}/vars.xml"),
            "<include>\n  <X-PRE-PROCESS cmd=\"set\" data=\"default_password=1234\"/>\n  \
             <X-PRE-PROCESS cmd=\"set\" data=\"local_ip_v4=10.0.3.66\"/>\n  \
             <X-PRE-PROCESS cmd=\"set\" data=\"external_rtp_ip=stun:stun.l.google.com:19302\"/>\n</include>\n",
        )
        .file(
            &format!("{directory}/sip_profiles/external.xml"),
            "<profile name=\"external\">\n  <settings>\n    <param name=\"rtp-ip\" value=\"$${local_ip_v4}\"/>\n    \
             <param name=\"sip-ip\" value=\"auto\"/>\n    <param name=\"ext-rtp-ip\" value=\"auto-nat\"/>\n    \
             <param name=\"ws-binding\"  value=\":5066\"/>\n    <param name=\"wss-binding\" value=\":7443\"/>\n  \
             </settings>\n</profile>\n",
        )
        .file(
            "usr/share/bigbluebutton/nginx/sip.nginx",
            "location /ws {\n  proxy_pass http://192.0.2.1:5066;\n}\n",
        )
        .script(
            "postinst",
            &format!(
                "sed -i \"s/ClueCon/$(openssl rand -hex 8)/\" /{directory}/autoload_configs/event_socket.conf.xml\n\
                 chown freeswitch:daemon /var/freeswitch/meetings\nchown -R freeswitch:daemon /opt/freeswitch\n\
                 [ -f /.dockerenv ] || systemctl start freeswitch.service"
            ),
        )
}

/// Makes a key when it first runs, which it does not while it is installed.
fn etherpad() -> Package {
    unit(
        Package::new("bbb-etherpad", "3.0.28"),
        "etherpad",
        "User=etherpad\nExecStart=/bin/sh -c 'test -s /usr/share/etherpad-lite/APIKEY.txt && exec sleep infinity'",
    )
    .directory("usr/share/etherpad-lite")
    .script("postinst", "chown -R etherpad:etherpad /usr/share/etherpad-lite")
}

fn pads() -> Package {
    idle("bbb-pads")
        .field("Depends", "bbb-etherpad")
        .file(
            "usr/local/bigbluebutton/bbb-pads/config/settings.json.template",
            "{\n  \"etherpad\": { \"api\": { \"version\": \"1.2.14\", \"key\": ETHERPAD_API_KEY } }\n}\n",
        )
        .script(
            "postinst",
            "cd /usr/local/bigbluebutton/bbb-pads/config\ncp settings.json.template settings.json\n\
             [ -f /usr/share/etherpad-lite/APIKEY.txt ] || echo \"bbb-pads missing Etherpad's APIKEY.txt file\"",
        )
}

/// Makes directories for recordings where later there is a volume.
fn record() -> Package {
    let mut package = Package::new("bbb-record-core", "3.0.28")
        .file(
            "usr/local/bigbluebutton/core/scripts/bigbluebutton.yml",
            "recording_dir: /var/bigbluebutton/recording\npublished_dir: /var/bigbluebutton/published\n\
             playback_host: localhost\n",
        )
        .file("usr/local/bigbluebutton/core/lib/recordandplayback.rb", "# What records and plays back.\n")
        .directory("usr/local/bigbluebutton/core/scripts/post_publish")
        .script(
            "postinst",
            "for status in recorded archived processed sanity published; do\n\
             mkdir -p /var/bigbluebutton/recording/status/$status\ndone\nmkdir -p /var/bigbluebutton/published\n\
             chown -R bigbluebutton:bigbluebutton /var/bigbluebutton\n\
             systemctl enable bbb-rap-resque-worker.service",
        );
    for name in ["bbb-rap-caption-inbox", "bbb-rap-resque-worker", "bbb-rap-starter"] {
        package = unit(package, name, "User=bigbluebutton\nExecStart=/bin/sleep infinity");
    }
    package
}

/// Fetches what documents are converted in.
fn libreoffice() -> Package {
    Package::new("bbb-libreoffice-docker", "3.0.28").script(
        "postinst",
        "command -v docker > /dev/null || exit 0\ndocker pull bigbluebutton/bbb-libreoffice:7.6.2\n\
         docker image tag bigbluebutton/bbb-libreoffice:7.6.2 bbb-soffice:7.6.2",
    )
}

/// Docker, whose daemon has no image until one is fetched.
fn docker() -> Package {
    Package::new("docker-ce", "27").program(
        "usr/bin/docker",
        "#!/bin/sh\ncase \"$*\" in\n\"image inspect\"*) grep -qs \"^pull .*$3\" /var/lib/docker/calls ;;\n\
         *) echo \"$*\" >> /var/lib/docker/calls ;;\nesac\n",
    )
}

/// What the archive of BigBlueButton has.
pub fn bigbluebutton() -> Vec<Package> {
    let idle_ones = [
        "bbb-apps-akka",
        "bbb-export-annotations",
        "bbb-fsesl-akka",
        "bbb-graphql-actions",
        "bbb-graphql-middleware",
        "bbb-webrtc-recorder",
        "bbb-webrtc-sfu",
    ];
    let mut packages =
        vec![web(), graphql(), freeswitch(), etherpad(), pads(), record(), libreoffice()];
    packages.extend(idle_ones.map(idle));
    let all: Vec<_> = packages.iter().map(|package| package.name.clone()).collect();
    packages.push(
        Package::new("bigbluebutton", "3.0.28")
            .field("Depends", &all.join(", "))
            .directory("var/bigbluebutton")
            .file(
                "usr/lib/systemd/system/bigbluebutton.target",
                "[Unit]\nDescription=BigBlueButton, a fake\n\n[Install]\nWantedBy=multi-user.target\n",
            ),
    );
    packages.push(Package::new("bbb-html5", "3.0.28"));
    packages.push(Package::new("bbb-playback-video", "3.0.28"));
    packages
}

/// What the archive of Docker has.
pub fn containers() -> Vec<Package> {
    vec![docker(), Package::new("docker-ce-cli", "27"), Package::new("containerd.io", "27")]
}

/// What makes a tree one of Ubuntu for Proxmox VE. Packages of Debian stand in for the rest; its `base-files`
/// says so, and then these two programs have to be there.
pub fn ubuntu() -> Package {
    Package::new("ubuntu-fake", "22.04")
        .field("Essential", "yes")
        .file("etc/lsb-release", "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=22.04\n")
        .program("usr/sbin/ifup", "#!/bin/false\n")
        .program("usr/sbin/dhcpcd", "#!/bin/false\n")
}
