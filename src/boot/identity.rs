//! Who a guest is: its name, its address, and the texts that tell it so.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use sha2::{Digest as _, Sha256};

use crate::definition::{Hostname, InterfaceAddress, Node, Plan};

/// Where guests without a site live: a private network of their own.
const DEFAULT_ADDRESS: &str = "10.77.0.11/24";
const DEFAULT_GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

/// Labels of host names are no longer (RFC 1123, section 2.1).
const LABEL_LIMIT: usize = 63;

/// Who a guest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its host name.
    pub name: Hostname,
    /// The role it runs.
    pub role: String,
    /// Its address and the length of the network's prefix.
    pub address: InterfaceAddress,
    /// The router.
    pub gateway: Option<IpAddr>,
    /// Its number among the nodes of its role, from 1.
    pub number: u32,
    /// Whether its row has to be handed to it, because the image's own node table has none.
    pub stranger: bool,
}

/// The site has no such node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum UnknownNode {
    /// No node of the role has the name.
    #[error("site `{site}` has no node `{name}` that runs `{role}`")]
    Name {
        /// The site.
        site: String,
        /// The node that was asked for.
        name: String,
        /// The role.
        role: String,
        /// Those there are.
        #[help]
        help: String,
    },
    /// No node runs the role.
    #[error("site `{site}` has no node that runs `{role}`")]
    #[diagnostic(help("add one to the site's [[nodes]], or boot without `--site`"))]
    Role {
        /// The site.
        site: String,
        /// The role.
        role: String,
    },
    /// A node of no site.
    #[error("a node has been named, but no site")]
    #[diagnostic(help("name the site with `--site SITE`, or leave out `--node`"))]
    NoSite,
    /// No name and no address for a guest without a site. Roles have names that make one.
    #[error("the role `{0}` cannot be part of a host name")]
    #[diagnostic(help("name a site and a node with `--site SITE --node NODE`"))]
    Unnameable(String),
}

impl Identity {
    /// The node `name` of the plan's site, or its first node of the role; without a site somebody who
    /// is in no node table.
    ///
    /// # Errors
    ///
    /// When the site has no such node.
    pub fn of(plan: &Plan, name: Option<&str>) -> Result<Self, UnknownNode> {
        let role = plan.role.to_string();
        let Some(site) = &plan.site else {
            return match name {
                Some(_) => Err(UnknownNode::NoSite),
                None => Self::stranger(&role).ok_or(UnknownNode::Unnameable(role)),
            };
        };
        let nodes: Vec<&Node> = plan.peers().collect();
        let found = match name {
            None => nodes.first(),
            Some(name) => nodes.iter().find(|node| node.name.as_str().eq_ignore_ascii_case(name)),
        };
        let site = site.name.to_string();
        match (found, name) {
            (Some(node), _) => Ok(Self {
                name: node.name.clone(),
                role,
                address: node.address,
                gateway: node.gateway,
                number: node.number,
                stranger: false,
            }),
            (None, Some(name)) if !nodes.is_empty() => {
                let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
                let help = format!("its nodes with that role: {}", names.join(", "));
                Err(UnknownNode::Name { site, name: name.to_owned(), role, help })
            }
            (None, _) => Err(UnknownNode::Role { site, role }),
        }
    }

    fn stranger(role: &str) -> Option<Self> {
        // Names of roles are in ASCII, and a name must not end with a hyphen before its number.
        let start = role.get(..role.len().min(LABEL_LIMIT - 1))?.trim_end_matches('-');
        Some(Self {
            name: format!("{start}1").parse().ok()?,
            role: role.to_owned(),
            address: DEFAULT_ADDRESS.parse().ok()?,
            gateway: Some(DEFAULT_GATEWAY),
            number: 1,
            stranger: true,
        })
    }

    /// The part of the name before the first dot.
    pub fn short_name(&self) -> &str {
        self.name.as_str().split('.').next().unwrap_or_default()
    }

    /// The gateway's address with the network's prefix, which whoever plays the router has.
    pub fn router(&self) -> Option<String> {
        Some(format!("{}/{}", self.gateway?, self.address.prefix()))
    }

    /// The MAC address of the guest's only interface: always the same for a name. Locally administered
    /// (IEEE 802, second lowest bit of the first octet).
    pub fn mac(&self) -> String {
        let digest = Sha256::digest(self.name.as_str());
        let octets = digest.iter().take(5).map(|octet| format!(":{octet:02x}"));
        format!("02{}", octets.collect::<String>())
    }

    /// A node table with this guest as its only node, in the format of `/usr/share/imgbuild/nodes`.
    pub fn node_table(&self) -> String {
        let gateway = self.gateway.map_or("-".to_owned(), |gateway| gateway.to_string());
        let Self { name, role, address, number, .. } = self;
        format!("{name} {role} {} {} {gateway} {number}\n", address.address(), address.prefix())
    }

    /// The network as Proxmox VE writes it for cloud-init: `network-config`, version 1
    /// (`PVE::QemuServer::Cloudinit`, `nocloud_network`).
    pub fn network_config(&self) -> String {
        let mut text = format!(
            "version: 1\nconfig:\n    - type: physical\n      name: eth0\n      \
             mac_address: '{}'\n      subnets:\n",
            self.mac()
        );
        let address = self.address.address();
        let subnet = match address {
            IpAddr::V4(address) => format!(
                "      - type: static\n        address: '{address}'\n        netmask: '{}'\n",
                netmask(self.address.prefix())
            ),
            IpAddr::V6(_) => {
                format!("      - type: static6\n        address: '{}'\n", self.address)
            }
        };
        text.push_str(&subnet);
        if let Some(gateway) = self.gateway {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "        gateway: '{gateway}'");
            let _ = write!(text, "    - type: nameserver\n      address:\n      - '{gateway}'\n");
        }
        text
    }

    /// What Proxmox VE tells cloud-init of the system: `user-data` (`cloudinit_userdata`), with
    /// `ciupgrade=0`. A password is that of root (`ciuser`, `cipassword`).
    pub fn user_data(&self, password: Option<&str>) -> String {
        let mut text = format!(
            "#cloud-config\nhostname: {}\nmanage_etc_hosts: true\nfqdn: {}\n",
            self.short_name(),
            self.name
        );
        if let Some(password) = password {
            let _ = write!(text, "user: root\ndisable_root: False\npassword: {password}\n");
        }
        text.push_str("chpasswd:\n  expire: False\n");
        if password.is_none() {
            text.push_str("users:\n  - default\n");
        }
        text
    }

    /// `meta-data`: an identifier that changes with the rest, as in `nocloud_gen_metadata`.
    pub fn meta_data(&self, user_data: &str) -> String {
        let digest = Sha256::digest(format!("{user_data}{}", self.network_config()));
        let digits = digest.iter().take(20).map(|octet| format!("{octet:02x}"));
        format!("instance-id: {}\n", digits.collect::<String>())
    }
}

fn netmask(prefix: u8) -> Ipv4Addr {
    let host_bits = 32 - u32::from(prefix.min(32));
    Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(address: &str, gateway: Option<&str>) -> Identity {
        Identity {
            name: "lb1.campus.example".parse().unwrap(),
            role: "haproxy".to_owned(),
            address: address.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            number: 1,
            stranger: false,
        }
    }

    #[test]
    fn the_network_is_written_as_proxmox_does() {
        insta::assert_snapshot!(identity("10.20.40.2/24", Some("10.20.40.1")).network_config(), @r#"
        version: 1
        config:
            - type: physical
              name: eth0
              mac_address: '02:2f:6a:5a:3a:ba'
              subnets:
              - type: static
                address: '10.20.40.2'
                netmask: '255.255.255.0'
                gateway: '10.20.40.1'
            - type: nameserver
              address:
              - '10.20.40.1'
        "#);
        insta::assert_snapshot!(identity("fd00::2/64", None).network_config(), @r#"
        version: 1
        config:
            - type: physical
              name: eth0
              mac_address: '02:2f:6a:5a:3a:ba'
              subnets:
              - type: static6
                address: 'fd00::2/64'
        "#);
    }

    #[test]
    fn the_system_is_described_as_proxmox_does() {
        let identity = identity("10.20.40.2/24", None);
        insta::assert_snapshot!(identity.user_data(None), @r#"
        #cloud-config
        hostname: lb1
        manage_etc_hosts: true
        fqdn: lb1.campus.example
        chpasswd:
          expire: False
        users:
          - default
        "#);
        insta::assert_snapshot!(identity.user_data(Some("x7")), @r#"
        #cloud-config
        hostname: lb1
        manage_etc_hosts: true
        fqdn: lb1.campus.example
        user: root
        disable_root: False
        password: x7
        chpasswd:
          expire: False
        "#);
        let metadata = identity.meta_data("x");
        assert_ne!(metadata, identity.meta_data("y"));
        assert!(metadata.starts_with("instance-id: ") && metadata.len() == 54, "{metadata}");
    }

    #[test]
    fn a_guest_without_a_site_is_the_first_of_its_role() {
        let identity = Identity::stranger("galera").unwrap();
        assert_eq!(identity.node_table(), "galera1 galera 10.77.0.11 24 10.77.0.1 1\n");
        assert_eq!(identity.router().unwrap(), "10.77.0.1/24");
        let long = "a".repeat(61) + "-b";
        assert_eq!(Identity::stranger(&long).unwrap().name.as_str(), "a".repeat(61) + "1");
    }

    #[test]
    fn a_node_without_a_gateway_has_a_dash_in_the_table() {
        let table = identity("10.20.40.2/24", None).node_table();
        assert_eq!(table, "lb1.campus.example haproxy 10.20.40.2 24 - 1\n");
    }

    #[test]
    fn the_mac_address_follows_from_the_name() {
        let mac = identity("10.20.40.2/24", None).mac();
        assert_eq!(mac, identity("10.20.40.3/24", None).mac());
        assert!(mac.starts_with("02:") && mac.len() == 17, "{mac}");
    }

    #[test]
    fn netmasks_have_as_many_bits_as_the_prefix() {
        let masks =
            [(0, "0.0.0.0"), (8, "255.0.0.0"), (23, "255.255.254.0"), (32, "255.255.255.255")];
        for (prefix, mask) in masks {
            assert_eq!(netmask(prefix).to_string(), mask);
        }
    }
}
