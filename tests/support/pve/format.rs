//! The named formats of the API's description (`register_format` in `PVE/JSONSchema.pm` of pve-common and in
//! qemu-server), those that requests of imgbuild have. Others are let through.

use std::net::{Ipv4Addr, Ipv6Addr};

use regex::Regex;

/// Whether `text` has the format `name`; a name that ends with `-list` is a list of them.
pub fn check(name: &str, text: &str) -> Result<(), String> {
    if let Some(item) = name.strip_suffix("-list") {
        return text
            .split([',', ';', ' ', '\0'])
            .filter(|part| !part.is_empty())
            .try_for_each(|part| check(item, part));
    }
    let good = match name {
        "pve-node" | "pve-realm" => matches("[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?", text),
        "pve-vmid" => matches("[1-9][0-9]{2,8}", text),
        "pve-storage-id" => matches("(?i)[a-z][a-z0-9_.-]*[a-z0-9]", text),
        "pve-configid" => matches("(?i)[a-z][a-z0-9_-]+", text),
        "pve-poolid" => matches("[a-zA-Z0-9/_.-]+", text),
        "pve-tag" => matches("[A-Za-z0-9_][A-Za-z0-9_+.-]*", text),
        "dns-name" => matches(
            "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*",
            text,
        ),
        "pve-bridge-id" => matches("[-_.\\w\\d]+", text),
        "pve-volume-id" => is_volume(text),
        "pve-volume-id-or-qm-path" => {
            is_volume(text)
                || matches(
                    "[^\\s,:]+:\\d+(\\.\\d+)?|[^\\s,:]+:cloudinit|none|cdrom|cloudinit",
                    text,
                )
        }
        "pve-volume-id-or-absolute-path" => is_volume(text) || text.starts_with('/'),
        "pve-lxc-mp-string" => matches("[^,]+", text),
        "mac-addr" => {
            // Not a group address.
            matches("(?i)[a-f0-9][02468ace](:[a-f0-9]{2}){5}", text)
        }
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "ip" | "address" => {
            text.parse::<Ipv4Addr>().is_ok()
                || text.parse::<Ipv6Addr>().is_ok()
                || check("dns-name", text).is_ok()
        }
        "pve-ipv4-config" => matches!(text, "dhcp" | "manual") || is_cidr::<Ipv4Addr>(text, 32),
        "pve-ipv6-config" => {
            matches!(text, "dhcp" | "manual" | "auto") || is_cidr::<Ipv6Addr>(text, 128)
        }
        "pve-qm-ipconfig" => return ipconfig(text),
        "pve-qm-boot" => matches("order=[a-z]+[0-9]+(;[a-z]+[0-9]+)*", text),
        "pve-qm-rng" => {
            matches("source=/dev/(urandom|random|hwrng)(,(max_bytes|period)=\\d+)*", text)
        }
        "pve-vm-cpu-conf" => matches("(cputype=)?[a-zA-Z0-9_.-]+(,[a-z-]+=[^,]+)*", text),
        "pve-qm-ide" => text.split(',').next().is_some_and(|first| {
            let first = first.strip_prefix("file=").unwrap_or(first);
            check("pve-volume-id-or-qm-path", first).is_ok()
        }),
        "pve-storage-content" => {
            matches!(
                text,
                "images" | "rootdir" | "vztmpl" | "iso" | "backup" | "snippets" | "import" | "none"
            )
        }
        "urlencoded" => matches("[-%a-zA-Z0-9_.!~*'()]*", text),
        "disk-size" => matches("\\d+(\\.\\d+)?[KMGT]?", text),
        _ => true,
    };
    if good {
        Ok(())
    } else {
        Err(format!("invalid format - value does not look like a valid {name}"))
    }
}

fn ipconfig(text: &str) -> Result<(), String> {
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("ip", value)) => check("pve-ipv4-config", value)?,
            Some(("gw", value)) => check("ipv4", value)?,
            Some(("ip6", value)) => check("pve-ipv6-config", value)?,
            Some(("gw6", value)) => check("ipv6", value)?,
            _ => return Err(format!("`{part}` is no part of an ipconfig")),
        }
    }
    Ok(())
}

fn is_volume(text: &str) -> bool {
    matches("(?i)[a-z][a-z0-9_.-]*[a-z0-9]:[^,\\s]+", text)
}

fn is_cidr<A: std::str::FromStr>(text: &str, bits: u8) -> bool {
    text.split_once('/').is_some_and(|(address, prefix)| {
        address.parse::<A>().is_ok() && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= bits)
    })
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(&format!("^(?:{pattern})$")).expect("a pattern").is_match(text)
}
