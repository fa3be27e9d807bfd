//! Says why a machine refuses namespaces and what to do about it.

use std::fs;

fn setting(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The remedy for the first cause found on this machine.
pub(super) fn remedy() -> String {
    let root = rustix::process::geteuid().is_root();
    let settings = Settings {
        root,
        apparmor: setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        clone: setting("/proc/sys/kernel/unprivileged_userns_clone"),
        maximum: setting("/proc/sys/user/max_user_namespaces"),
        container: std::path::Path::new("/.dockerenv").exists()
            || std::path::Path::new("/run/.containerenv").exists()
            || setting("/run/systemd/container").is_some(),
    };
    settings.remedy()
}

struct Settings {
    root: bool,
    apparmor: Option<String>,
    clone: Option<String>,
    maximum: Option<String>,
    container: bool,
}

impl Settings {
    fn remedy(&self) -> String {
        if self.maximum.as_deref() == Some("0") {
            return "user namespaces are switched off: as root, `sysctl -w \
                    user.max_user_namespaces=15000`, and a line in /etc/sysctl.d/ to keep it"
                .to_owned();
        }
        if !self.root && self.clone.as_deref() == Some("0") {
            return "plain users may not make user namespaces here: as root, `sysctl -w \
                    kernel.unprivileged_userns_clone=1`, or build as root"
                .to_owned();
        }
        if !self.root && self.apparmor.as_deref() == Some("1") {
            return "AppArmor restricts user namespaces of plain users (Ubuntu 23.10 and later). \
                    Allow it for imgbuild alone with a profile, as root:\n\
                    printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile imgbuild \
                    /usr/local/bin/imgbuild flags=(unconfined) {\\n  userns,\\n}\\n' \
                    > /etc/apparmor.d/imgbuild && apparmor_parser -r /etc/apparmor.d/imgbuild\n\
                    (with the path of your imgbuild), or build as root"
                .to_owned();
        }
        if self.container {
            return "this is a container: run it so that it may make namespaces and mount /proc \
                    (LXC: `features: nesting=1`; Docker and Podman: `--security-opt \
                    seccomp=unconfined --security-opt systempaths=unconfined --cap-add SYS_ADMIN`)"
                .to_owned();
        }
        "the kernel needs CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS and tmpfs, and no security \
         module may forbid them; `unshare --user --map-root-user --mount --pid --fork true` shows \
         whether it works outside imgbuild"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_refuses_is_named() {
        let open = || Settings {
            root: false,
            apparmor: Some("0".into()),
            clone: Some("1".into()),
            maximum: Some("1000".into()),
            container: false,
        };
        let cases = [
            (Settings { maximum: Some("0".into()), ..open() }, "user.max_user_namespaces"),
            (Settings { clone: Some("0".into()), ..open() }, "unprivileged_userns_clone"),
            (Settings { apparmor: Some("1".into()), ..open() }, "apparmor_parser"),
            (Settings { apparmor: Some("1".into()), root: true, ..open() }, "CONFIG_USER_NS"),
            (Settings { container: true, ..open() }, "nesting=1"),
            (open(), "CONFIG_USER_NS"),
        ];
        for (settings, expected) in cases {
            assert!(settings.remedy().contains(expected), "{expected}");
        }
    }
}
