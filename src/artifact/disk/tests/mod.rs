//! Whole disks: what is on them, what they cost, and what other programs say.

mod refused;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::sync::Mutex;

use super::erofs::{Extent, Node, reader as erofs_reader};
use super::qcow2::reader as qcow2_reader;
use super::testing::{boot_image, core_image, noise, oracle};
use super::*;
use crate::layer::archive::Archive;
use crate::layer::archive::testing::{Tree, layer};
use crate::layer::entry::Kind;
use crate::layer::index::Merged;

const MIB: u64 = 1 << 20;

/// Keeps segments in a directory that goes away with it.
struct Segments {
    directory: tempfile::TempDir,
    kept: Mutex<Vec<Digest>>,
}

impl Segments {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), kept: Mutex::default() }
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.directory.path().join(key.to_string())
    }
}

impl SegmentStore for Segments {
    fn find(&self, key: &Digest) -> Option<PathBuf> {
        Some(self.path(key)).filter(|path| path.exists())
    }

    fn keep(
        &self,
        key: &Digest,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        let mut file = tempfile::NamedTempFile::new_in(self.directory.path())?;
        write(&mut file)?;
        file.persist(self.path(key))?;
        self.kept.lock().unwrap().push(*key);
        Ok(self.path(key))
    }
}

/// A stack and what it boots with.
struct Fixture {
    layers: Vec<Archive>,
    boot: BootFiles,
}

impl Fixture {
    fn new() -> Self {
        let mut base = Tree::parse("d /\nl /bin usr/bin\nd /etc\nf /etc/a 1\nd /usr\nd /usr/bin");
        for number in 0..40 {
            let content = noise(number, 30_000 + 1000 * number as usize);
            base = base.file(&format!("usr/bin/{number:02}"), content);
        }
        for number in 0..300 {
            base = base.file(&format!("usr/text-{number:03}"), "some text\n".repeat(number));
        }
        let node = layer("f /etc/b 2\nw /usr/text-001\nh /usr/x etc/b");
        Self { layers: vec![base.archive(), node, layer("f /etc/config 1")], boot: boot_files() }
    }

    fn with_config(config: &str) -> Self {
        let mut fixture = Self::new();
        fixture.layers[2] = layer(&format!("f /etc/config {config}"));
        fixture
    }

    fn below(&self, number: usize) -> Merged<'_> {
        Merged::new(self.layers[..number].iter().map(|layer| &layer.index)).unwrap()
    }

    /// Calls `act` with the parts of a disk.
    fn with<T>(&self, act: impl FnOnce(&Boot<'_>, &[Layer<'_>]) -> T) -> T {
        let nodes = (0..self.layers.len()).map(|number| {
            move || Ok(nodes_of_layer(&self.layers[number], &self.below(number))?.nodes)
        });
        let nodes: Vec<_> = nodes.collect();
        let key = |number| nodes_of_layer(&self.layers[number], &self.below(number)).unwrap().key;
        let layers = nodes.iter().enumerate();
        let layers: Vec<_> =
            layers.map(|(number, nodes)| Layer { key: key(number), nodes }).collect();
        let files = || Ok(self.boot.clone());
        let mut key = crate::digest::Hasher::new();
        key.field(&self.boot.sector);
        key.field(&self.boot.core);
        self.boot.esp.iter().for_each(|(_, bytes)| key.field(bytes));
        let boot = Boot { key: key.finish(), files: &files };
        act(&boot, &layers)
    }

    fn assemble(
        &self,
        store: &dyn SegmentStore,
        threads: usize,
    ) -> Result<(Vec<u8>, Assembled), Error> {
        let mut output = tempfile::tempfile().unwrap();
        let progress = Mutex::new(0);
        let count = |bytes| *progress.lock().unwrap() += bytes;
        let image = Digest::of("image");
        let assembled = self.with(|boot, layers| {
            assemble(
                image,
                boot,
                layers,
                store,
                Compression::STANDARD,
                threads,
                &mut output,
                &count,
            )
        })?;
        let mut bytes = Vec::new();
        output.rewind().unwrap();
        output.read_to_end(&mut bytes).unwrap();
        assert_eq!(assembled.sha256, Digest::of(&bytes));
        assert_eq!(assembled.size, bytes.len() as u64);
        assert_eq!(*progress.lock().unwrap(), assembled.size);
        Ok((bytes, assembled))
    }

    fn disk(&self) -> (Vec<u8>, Assembled) {
        self.assemble(&Segments::new(), 2).unwrap()
    }
}

fn boot_files() -> BootFiles {
    let esp = [
        ("EFI/BOOT/BOOTX64.EFI", noise(7, 200_000)),
        ("imgbuild/grub.cfg", b"boot\n".to_vec()),
        ("imgbuild/initrd.img", b"initramfs ".repeat(50_000)),
        ("imgbuild/vmlinuz", noise(8, 500_000)),
    ];
    BootFiles {
        sector: boot_image(),
        core: core_image(100_001),
        esp: esp.map(|(path, bytes)| (path.into(), bytes)).into(),
    }
}

#[test]
fn a_disk_has_the_partitions_that_it_says() {
    let fixture = Fixture::new();
    let (file, assembled) = fixture.disk();
    let disk = qcow2_reader::read(&file);
    assert_eq!((disk.size, assembled.virtual_size), (1 << 30, 1 << 30));
    let labels: Vec<_> = assembled.partitions.iter().map(|part| part.label.as_str()).collect();
    assert_eq!(labels, ["bios", "boot", "roots", "layer-00", "layer-01", "layer-02"]);
    let mut next = 2048;
    for partition in &assembled.partitions {
        assert_eq!(partition.first_sector, next);
        assert_eq!(partition.sectors % 2048, 0);
        next += partition.sectors;
    }
    let [bios, boot, roots, ..] = &assembled.partitions[..] else { panic!("{assembled:?}") };
    assert_eq!((bios.sectors, boot.sectors, roots.sectors), (2048, 128 * 2048, 2048));

    // The boot sector loads the core image, and that the rest of itself.
    let sector = disk.read(0, 512);
    assert_eq!(sector[0x5c..0x64], 2048_u64.to_le_bytes());
    assert_eq!(sector[..0x5c], boot_image()[..0x5c]);
    let core = disk.read(2048 * 512, 100_001);
    assert_eq!(core[500..512], [1, 8, 0, 0, 0, 0, 0, 0, 195, 0, 0x20, 8]);
    assert_eq!(core[512..], core_image(100_001)[512..]);

    let mut names = Vec::new();
    for (partition, number) in assembled.partitions[3..].iter().zip(0..) {
        let (root, blocks) = (partition.root_hash.unwrap(), partition.data_blocks.unwrap());
        let digits = root.to_string();
        assert_eq!(partition.uuid.replace('-', ""), digits[..32]);
        names.push(format!("{digits}:{blocks}"));
        let start = partition.first_sector * 512;
        let image = disk.read(start, (blocks * 4096) as usize);
        let found: Vec<_> =
            erofs_reader::read(&image).into_iter().map(|(entry, _)| entry.path).collect();
        let below = fixture.below(number);
        let nodes = nodes_of_layer(&fixture.layers[number], &below).unwrap().nodes;
        let expected: Vec<_> = nodes.iter().map(|node| node.entry.path.clone()).collect();
        assert_eq!(found, expected);
        assert_eq!(disk.read(start + blocks * 4096, 8), b"verity\0\0");
    }
    let script = format!("set imgbuild_layers=\"{}\"\n", names.join(","));
    let volume = disk.read(roots.first_sector * 512, MIB as usize);
    let found = volume.windows(script.len()).filter(|window| *window == script.as_bytes()).count();
    assert_eq!(found, 1);
}

#[test]
fn a_disk_is_the_same_whatever_the_threads_and_the_store() {
    let fixture = Fixture::new();
    let (expected, first) = fixture.assemble(&Segments::new(), 1).unwrap();
    assert_eq!((first.segments_compressed, first.segments_reused), (5, 0));
    for threads in [2, 7] {
        let store = Segments::new();
        fixture.with(|boot, layers| {
            let prepare = |layer| prepare(layer, &store, Compression::STANDARD, threads).unwrap();
            assert!(prepare(&layers[0]) && !prepare(&layers[0]));
            assert!(prepare_boot(boot, &store, Compression::STANDARD, threads).unwrap());
            assert!(!prepare_boot(boot, &store, Compression::STANDARD, threads).unwrap());
        });
        let (bytes, assembled) = fixture.assemble(&store, threads).unwrap();
        assert!(bytes == expected);
        assert_eq!((assembled.segments_compressed, assembled.segments_reused), (2, 3));
        let (bytes, assembled) = fixture.assemble(&store, threads).unwrap();
        assert!(bytes == expected);
        assert_eq!((assembled.segments_compressed, assembled.segments_reused), (0, 5));
    }
}

#[test]
fn bytes_do_not_change_unnoticed() {
    let (bytes, assembled) = Fixture::new().disk();
    let uuids = assembled.partitions.iter().map(|partition| partition.uuid.as_str());
    let uuids: Vec<_> = uuids.collect();
    assert_eq!(
        (Digest::of(bytes).short().as_str(), Digest::of(uuids.concat()).short().as_str()),
        ("0d04fac5f84c", "7d0c1b08b0ca")
    );
}

#[test]
fn a_changed_file_changes_the_last_layer_and_its_name_alone() {
    let store = Segments::new();
    let (before, _) = Fixture::with_config("1").assemble(&store, 2).unwrap();
    let (after, assembled) = Fixture::with_config("22").assemble(&store, 2).unwrap();
    assert_eq!((assembled.segments_compressed, assembled.segments_reused), (1, 4));
    let (before, after) = (qcow2_reader::read(&before), qcow2_reader::read(&after));
    let numbers: std::collections::BTreeSet<_> =
        before.clusters.keys().chain(after.clusters.keys()).collect();
    let last = assembled.partitions.last().unwrap();
    let roots = &assembled.partitions[2];
    let within = |partition: &Partition, sector: u64| {
        (partition.first_sector..partition.first_sector + partition.sectors).contains(&sector)
    };
    for number in numbers {
        if before.clusters.get(number) == after.clusters.get(number) {
            continue;
        }
        let sector = number * 128;
        let table = sector < 2048 || sector + 128 == after.size / 512;
        assert!(table || within(last, sector) || within(roots, sector), "cluster {number} differs");
    }
}

#[test]
fn a_damaged_segment_is_made_again() {
    let store = Segments::new();
    let fixture = Fixture::new();
    let (expected, _) = fixture.assemble(&store, 2).unwrap();
    for key in store.kept.lock().unwrap().iter() {
        let file = File::options().write(true).open(store.path(key)).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    }
    let (bytes, assembled) = fixture.assemble(&store, 2).unwrap();
    assert!(bytes == expected);
    assert_eq!(assembled.segments_compressed, 5);
}

#[test]
fn other_programs_agree() {
    let fixture = Fixture::new();
    let (bytes, assembled) = fixture.disk();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (image, raw, again, raw_again) =
        (file("a.qcow2"), file("a.raw"), file("b.qcow2"), file("b.raw"));
    fs::write(&image, &bytes).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = oracle(program, arguments)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        Some(text)
    };
    let Some(text) = run("qemu-img", &["check", &image]) else { return };
    assert!(text.contains("No errors were found"), "{text}");
    run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", &image, &raw]);
    // What Proxmox does on import, to a storage of files and to one of block devices.
    run("qemu-img", &["convert", "-f", "qcow2", "-O", "qcow2", &image, &again]);
    run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", &again, &raw_again]);
    let disk = qcow2_reader::read(&bytes);
    let zeros = vec![0; 65_536];
    for raw in [&raw, &raw_again] {
        let mut raw = File::open(raw).unwrap();
        assert_eq!(raw.metadata().unwrap().len(), disk.size);
        let mut cluster = vec![0; 65_536];
        for number in 0..disk.size / 65_536 {
            raw.read_exact(&mut cluster).unwrap();
            let expected = disk.clusters.get(&number).unwrap_or(&zeros);
            assert!(*expected == cluster, "cluster {number}");
        }
    }
    if let Some(text) = run("sgdisk", &["-v", &raw]) {
        assert!(text.contains("No problems found"), "{text}");
        assert!(!text.contains("Caution") && !text.contains("Warning"), "{text}");
        let text = run("sgdisk", &["-i", "4", &raw]).unwrap().to_lowercase();
        assert!(text.contains(&assembled.partitions[3].uuid), "{text}");
        assert!(text.contains("'layer-00'"), "{text}");
        let text = run("sgdisk", &["-p", &raw]).unwrap().to_lowercase();
        let guid = uuid::Uuid::of(&Digest::of("image")).to_string();
        assert!(text.contains(&guid), "{text}");
    }
    for partition in assembled.partitions.iter().filter(|partition| partition.root_hash.is_some()) {
        let start = partition.first_sector * 512;
        fs::write(file("layer"), disk.read(start, (partition.sectors * 512) as usize)).unwrap();
        let offset = format!("--hash-offset={}", partition.data_blocks.unwrap() * 4096);
        let root = partition.root_hash.unwrap().to_string();
        let layer = file("layer");
        if run("veritysetup", &["verify", &layer, &layer, &root, &offset]).is_none() {
            break;
        }
    }
    let volume = |number: usize| {
        let start = assembled.partitions[number].first_sector * 512;
        format!("{raw}@@{start}")
    };
    for (path, content) in &fixture.boot.esp {
        let output = oracle("mtype", &["-i", &volume(1), &format!("::/{}", path.display())]);
        let Some(output) = output else { break };
        assert!(output.stdout == *content, "{}", path.display());
    }
    if let Some(text) = run("mtype", &["-i", &volume(2), "::/imgbuild/roots.cfg"]) {
        assert!(text.starts_with("set imgbuild_layers=\""), "{text}");
    }
}

#[test]
fn the_same_layer_twice_is_possible() {
    let mut fixture = Fixture::new();
    fixture.layers.push(layer("f /etc/config 1"));
    fixture.layers.push(layer("f /etc/config 1"));
    let (_, assembled) = fixture.disk();
    let uuids: BTreeMap<_, _> = assembled.partitions.iter().map(|part| (&part.uuid, ())).collect();
    assert_eq!((assembled.partitions.len(), uuids.len()), (8, 6));
}

#[test]
fn a_larger_disk_is_whole_gibibytes() {
    // The rest of the first GiB, but for the hash tree and the backup of the partition table.
    for (size, gibibytes) in [(880 * MIB, 1), (1000 * MIB, 2)] {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        let nodes = || Ok(sparse_nodes(&file, size));
        let layers = [Layer { key: Digest::of(size.to_le_bytes()), nodes: &nodes }];
        let files = || Ok(boot_files());
        let boot = Boot { key: Digest::of("boot"), files: &files };
        let store = Segments::new();
        let mut output = tempfile::tempfile().unwrap();
        let image = Digest::of("image");
        let assembled =
            assemble(image, &boot, &layers, &store, Compression::STANDARD, 2, &mut output, &|_| {});
        let assembled = assembled.unwrap();
        assert_eq!(assembled.virtual_size, gibibytes << 30);
        let end = assembled.partitions.last().map(|part| part.first_sector + part.sectors).unwrap();
        assert!(end + 33 <= assembled.virtual_size / 512);
    }
}

/// A file of `size` bytes.
fn sparse_nodes(file: &File, size: u64) -> Vec<Node<'_>> {
    let archive = layer("d /\nf /big");
    let entries = archive.index.entries().iter().map(|member| member.entry.clone());
    let nodes = entries.map(|mut entry| {
        let is_file = entry.kind != Kind::Directory;
        if is_file {
            entry.kind = Kind::File { size };
        }
        let content = is_file.then_some(Extent { file, offset: 0, size });
        Node { entry: std::borrow::Cow::Owned(entry), content }
    });
    nodes.collect()
}
