//! What it takes to make disks in a small project: a machine definition, and a boot image whose files have
//! the right shape and start nothing.

use super::package::Package;
use super::project::Project;

/// Sectors of the stand-in for GRUB's core image, with which it begins to read the rest of itself.
const CORE_SECTORS: u32 = 60;

/// Leaves what a boot image has to leave. At the end of the first sector of GRUB's core image is the
/// segment that the others are loaded to.
fn make_boot() -> String {
    format!(
        "set -eu\nmkdir -p /boot/imgbuild/esp/EFI/BOOT /boot/imgbuild/esp/imgbuild\ncd /boot/imgbuild\n\
         head -c 510 /dev/zero > boot.img\nprintf '\\125\\252' >> boot.img\n\
         head -c 510 /dev/zero > core.img\nprintf '\\040\\010' >> core.img\n\
         head -c {} /dev/zero >> core.img\necho loader > esp/EFI/BOOT/BOOTX64.EFI\n\
         cp /usr/share/linux/vmlinuz esp/imgbuild/vmlinuz\necho initramfs > esp/imgbuild/initrd.img\n\
         echo menu > esp/imgbuild/grub.cfg\n",
        (CORE_SECTORS - 1) * 512
    )
}

/// The packages that the definitions install.
pub fn packages() -> [Package; 2] {
    let text = "a driver\n".repeat(20_000);
    let kernel = Package::new("linux", "6.12")
        .file("usr/lib/modules/6.12/kernel/one.ko", &text)
        .file("usr/share/linux/vmlinuz", &"kernel\n".repeat(50_000))
        // As the trigger of tiny-initramfs: never twice the same.
        .script("postinst", "mkdir -p /boot; date +%s.%N > /boot/initrd.img-6.12");
    let devices = Package::new("devices", "1.0")
        .file("usr/lib/devices/rules", "rules\n")
        .script("postinst", "echo devices >> /etc/devices");
    [kernel, devices]
}

impl Project {
    /// Adds a machine definition on `base` and its boot image. [`packages`] must be on offer.
    pub fn add_machine(&self) {
        self.write(
            "images/kernel/image.toml",
            "summary = \"The kernel\"\nversion = \"1\"\nextends = \"base\"\n\
             [packages]\ninstall = [\"linux\"]\n\
             [boot]\ncommand = [\"/bin/sh\", \"/usr/lib/imgbuild/make-boot\"]\n",
        );
        self.write("images/kernel/files/usr/lib/imgbuild/make-boot", &make_boot());
        self.write(
            "images/machine/image.toml",
            "summary = \"A virtual machine\"\nversion = \"1\"\nextends = \"base\"\n\
             [packages]\ninstall = [\"devices\"]\n[machine]\nboot = \"kernel\"\n",
        );
        self.write(
            "images/machine/files/usr/share/imgbuild/volumes.hbs",
            "# {{image.name}}\n{{#each volumes}}\n{{name}} {{path}} {{owner}} {{group}} {{mode}}\n{{/each}}\n",
        );
    }
}
