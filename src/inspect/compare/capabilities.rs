//! The capabilities of files in words.

/// The names of capabilities by their numbers (`linux/capability.h`, Linux 6.12).
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Where the little-endian words of the attribute are (`struct vfs_ns_cap_data`, revision 2): flags, then
/// permitted and inheritable, the lower 32 of each first.
const PERMITTED: [usize; 2] = [4, 12];
const INHERITABLE: [usize; 2] = [8, 16];

/// A `security.capability` attribute as getcap(8) writes it: `cap_net_raw=ep`.
pub(super) fn text(value: &[u8]) -> String {
    let word = |at: usize| {
        let bytes = value.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u64::from(u32::from_le_bytes(bytes.unwrap_or_default()))
    };
    let set = |[low, high]: [usize; 2]| word(low) | (word(high) << 32);
    let (permitted, inheritable) = (set(PERMITTED), set(INHERITABLE));
    let effective = word(0) & 1 == 1;
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for bit in (0..64).filter(|bit| (permitted | inheritable) >> bit & 1 == 1) {
        let has = |set: u64| set >> bit & 1 == 1;
        let flags: String = [(effective, 'e'), (has(inheritable), 'i'), (has(permitted), 'p')]
            .into_iter()
            .filter_map(|(set, flag)| set.then_some(flag))
            .collect();
        let name = match NAMES.get(bit) {
            Some(name) => format!("cap_{name}"),
            None => bit.to_string(),
        };
        match groups.iter_mut().find(|(known, _)| *known == flags) {
            Some((_, names)) => names.push(name),
            None => groups.push((flags, vec![name])),
        }
    }
    let groups = groups.into_iter().map(|(flags, names)| format!("{}={flags}", names.join(",")));
    groups.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(effective: u8, permitted: u64, inheritable: u64) -> Vec<u8> {
        let half = |set: u64, high: bool| (if high { set >> 32 } else { set } as u32).to_le_bytes();
        let words =
            [(permitted, false), (inheritable, false), (permitted, true), (inheritable, true)];
        let mut bytes = vec![effective, 0, 0, 2];
        bytes.extend(words.iter().flat_map(|(set, high)| half(*set, *high)));
        bytes
    }

    #[test]
    fn capabilities_are_written_as_getcap_does() {
        for (value, expected) in [
            (attribute(1, 1 << 13, 0), "cap_net_raw=ep"),
            (attribute(0, 1 << 10 | 1 << 12, 0), "cap_net_bind_service,cap_net_admin=p"),
            (attribute(1, 1 << 13, 1 << 39), "cap_net_raw=ep cap_bpf=ei"),
            (attribute(0, 1 << 60, 0), "60=p"),
            (Vec::new(), ""),
        ] {
            assert_eq!(text(&value), expected);
        }
    }
}
