//! What `PVE::LXC::Setup` of pve-container does to a Debian container before it starts.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::tree::Tree;
use crate::boot::Identity;

/// Where the domain of a guest's network comes from, for the tests of this program and in real sites.
const SEARCH_DOMAIN: &str = "imgbuild.example";

/// The first and last line of what Proxmox VE owns in a file.
const BEGIN: &str = "# --- BEGIN PVE ---";
const END: &str = "# --- END PVE ---";

/// Units that Proxmox VE switches on and off in containers of Debian 12 and later.
const PRESET: &str = "enable container-getty@.service\ndisable getty@.service\n\
    disable sys-kernel-config.mount\ndisable sys-kernel-debug.mount\n\
    disable systemd-networkd.service\n";

/// The unit of a login prompt on the console of the web interface.
const GETTY: &str = "lib/systemd/system/container-getty@.service";

/// Makes the root file system below `root` the one of `identity`, where no name server knows `names`.
pub(super) fn set_up(
    root: &Path,
    identity: &Identity,
    names: &[(IpAddr, String)],
) -> io::Result<()> {
    let tree = Tree::open(root)?;
    if tree.read("etc/debian_version")?.is_none() {
        return Err(io::Error::other("there is no /etc/debian_version: Proxmox VE refuses that"));
    }
    // `DIRECTORY/.pve-ignore.NAME` keeps Proxmox VE away from DIRECTORY/NAME.
    if !tree.has("etc/.pve-ignore.machine-id") {
        tree.remove("etc/machine-id")?;
    }
    if let Some(shadow) = tree.read("etc/shadow")? {
        tree.write("etc/shadow", &without_root_password(&shadow))?;
    }
    tree.write("fastboot", "")?;
    tree.make_directory("etc/systemd/system-preset")?;
    tree.write("etc/systemd/system-preset/00-pve.preset", PRESET)?;
    if let Some(unit) = tree.read(GETTY)? {
        tree.write(GETTY, &unit.replace("pts/%I", "tty%I"))?;
        let wants = "etc/systemd/system/getty.target.wants";
        tree.make_directory(wants)?;
        for number in [1, 2] {
            let link = format!("{wants}/container-getty@{number}.service");
            tree.link(&format!("/{GETTY}"), &link)?;
        }
    }
    tree.write("etc/hostname", &format!("{}\n", identity.short_name()))?;
    let hosts = tree.read("etc/hosts")?.unwrap_or_default();
    tree.write("etc/hosts", &with_own_lines(&hosts, identity, names))?;
    if let Some(gateway) = identity.gateway {
        let text = format!("{BEGIN}\nsearch {SEARCH_DOMAIN}\nnameserver {gateway}\n{END}\n");
        tree.write("etc/resolv.conf", &text)?;
    }
    // From Ubuntu 17.10 on Proxmox VE configures networkd (`PVE::LXC::Setup::Ubuntu`).
    if tree.read("etc/lsb-release")?.is_some_and(|text| text.contains("DISTRIB_ID=Ubuntu")) {
        return set_up_networkd(&tree, identity);
    }
    tree.write("etc/network/interfaces", &interfaces(identity))
}

fn set_up_networkd(tree: &Tree, identity: &Identity) -> io::Result<()> {
    tree.remove("etc/systemd/system-preset/00-pve.preset")?;
    let wants = "etc/systemd/system/multi-user.target.wants";
    tree.make_directory(wants)?;
    let unit = "systemd-networkd.service";
    tree.link(&format!("/lib/systemd/system/{unit}"), &format!("{wants}/{unit}"))?;
    tree.make_directory("etc/systemd/network")?;
    tree.write("etc/systemd/network/eth0.network", &network(identity))
}

/// What systemd.network(5) calls the guest's interface.
fn network(identity: &Identity) -> String {
    let gateway = identity.gateway.map(|gateway| format!("Gateway = {gateway}\n"));
    format!(
        "[Match]\nName = eth0\n\n[Network]\nDescription = Interface eth0 autoconfigured by PVE\n\
         Address = {}\n{}DHCP = no\nIPv6AcceptRA = false\n",
        identity.address,
        gateway.unwrap_or_default(),
    )
}

fn without_root_password(shadow: &str) -> String {
    let line = |line: &str| match line.strip_prefix("root:").and_then(|rest| rest.split_once(':')) {
        Some((_, rest)) => format!("root:*:{rest}\n"),
        None => format!("{line}\n"),
    };
    shadow.lines().map(line).collect()
}

/// `hosts` with the guest's own address in the part that belongs to Proxmox VE, at the end, and with `names`, which
/// Proxmox VE would leave to name servers.
fn with_own_lines(hosts: &str, identity: &Identity, names: &[(IpAddr, String)]) -> String {
    let mut text = String::new();
    let mut ours = false;
    for line in hosts.lines() {
        ours |= line == BEGIN;
        if !ours {
            text.push_str(line);
            text.push('\n');
        }
        ours &= line != END;
    }
    let (address, name) = (identity.address.address(), identity.short_name());
    let full = match identity.name.as_str().contains('.') {
        true => identity.name.to_string(),
        false => format!("{name}.{SEARCH_DOMAIN}"),
    };
    let names: String = names.iter().map(|(address, name)| format!("{address} {name}\n")).collect();
    format!("{text}{BEGIN}\n{address} {full} {name}\n{names}{END}\n")
}

fn interfaces(identity: &Identity) -> String {
    let family = if identity.address.address().is_ipv4() { "inet" } else { "inet6" };
    let mut text = format!(
        "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 {family} static\n        \
         address {}\n",
        identity.address
    );
    if let Some(gateway) = identity.gateway {
        text.push_str(&format!("        gateway {gateway}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "lb1".parse().unwrap(),
            role: "haproxy".to_owned(),
            address: "10.20.40.2/24".parse().unwrap(),
            gateway: Some("10.20.40.1".parse().unwrap()),
            number: 1,
            stranger: false,
        }
    }

    #[test]
    fn roots_password_is_taken_away_and_no_other() {
        let shadow = "root:$y$x:20000:0:99999:7:::\nrooter:$y$x:1::::::\nmysql:!:1::::::\n";
        assert_eq!(
            without_root_password(shadow),
            "root:*:20000:0:99999:7:::\nrooter:$y$x:1::::::\nmysql:!:1::::::\n"
        );
    }

    #[test]
    fn hosts_are_kept_and_the_own_part_is_replaced() {
        let before = format!("127.0.0.1 localhost\n{BEGIN}\n10.0.0.1 old\n{END}\n::1 localhost\n");
        let names = [("10.20.40.5".parse().unwrap(), "www.campus.example".to_owned())];
        let after = with_own_lines(&before, &identity(), &names);
        insta::assert_snapshot!(after, @r#"
        127.0.0.1 localhost
        ::1 localhost
        # --- BEGIN PVE ---
        10.20.40.2 lb1.imgbuild.example lb1
        10.20.40.5 www.campus.example
        # --- END PVE ---
        "#);
        assert_eq!(with_own_lines(&after, &identity(), &names), after);
    }

    #[test]
    fn the_network_is_given_as_ifupdown_reads_it() {
        insta::assert_snapshot!(interfaces(&identity()), @r#"
        auto lo
        iface lo inet loopback

        auto eth0
        iface eth0 inet static
                address 10.20.40.2/24
                gateway 10.20.40.1
        "#);
    }

    #[test]
    fn the_network_is_given_as_networkd_reads_it() {
        insta::assert_snapshot!(network(&identity()), @r#"
        [Match]
        Name = eth0

        [Network]
        Description = Interface eth0 autoconfigured by PVE
        Address = 10.20.40.2/24
        Gateway = 10.20.40.1
        DHCP = no
        IPv6AcceptRA = false
        "#);
    }

    #[test]
    fn links_of_the_container_do_not_lead_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("rootfs");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(directory.path().join("outside"), "x").unwrap();
        std::os::unix::fs::symlink("../../outside", root.join("etc/file")).unwrap();
        std::os::unix::fs::symlink(directory.path(), root.join("there")).unwrap();
        let tree = Tree::open(&root).unwrap();
        assert_eq!(tree.read("etc/file").unwrap(), None);
        assert_eq!(tree.read("there/outside").unwrap(), None);
        assert!(tree.make_directory("there/a").is_err() || !directory.path().join("a").exists());
    }
}
