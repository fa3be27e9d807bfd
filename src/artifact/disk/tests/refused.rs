//! What cannot be, and what can go wrong.

use std::fs::File;
use std::path::Path;

use super::*;

#[test]
fn what_cannot_be_is_refused() {
    let refused = |change: &dyn Fn(&mut Fixture)| {
        let mut fixture = Fixture::new();
        change(&mut fixture);
        let store = Segments::new();
        let error = fixture.assemble(&store, 2).unwrap_err();
        assert!(miette::Diagnostic::help(&error).is_some() || matches!(error, Error::Name { .. }));
        error
    };
    let many = refused(&|fixture| {
        fixture.layers.extend((0..20).map(|number| layer(&format!("f /etc/{number} 1"))));
    });
    assert!(
        matches!(many, Error::TooManyLayers { layers: 23, limit: 1536, length } if length > 1536)
    );
    for missing in ["EFI/BOOT/BOOTX64.EFI", "imgbuild/grub.cfg"] {
        let error = refused(&|fixture| {
            fixture.boot.esp.retain(|(path, _)| path != Path::new(missing));
        });
        assert!(matches!(&error, Error::NoBootFile(path) if path.ends_with(missing)), "{error:?}");
    }
    let error = refused(&|fixture| fixture.boot.esp.push(("big".into(), vec![1; 130 << 20])));
    assert!(matches!(error, Error::VolumeFull { volume: "boot", .. }), "{error:?}");
    let error = refused(&|fixture| fixture.boot.esp.push(("a:b".into(), Vec::new())));
    assert!(matches!(error, Error::Name { .. }), "{error:?}");
    let error = refused(&|fixture| fixture.boot.core = core_image(1 << 20));
    assert!(matches!(error, Error::CoreTooLarge { .. }), "{error:?}");
    let error = refused(&|fixture| fixture.boot.sector.truncate(440));
    assert!(matches!(error, Error::BootSector { size: 440 }), "{error:?}");
}

#[test]
fn too_much_is_refused() {
    let file = tempfile::tempfile().unwrap();
    let store = Segments::new();
    let nodes = || Ok(sparse_nodes(&file, DISK_LIMIT));
    let huge = Layer { key: Digest::of("huge"), nodes: &nodes };
    let error = prepare(&huge, &store, Compression::STANDARD, 2).unwrap_err();
    assert!(matches!(error, Error::LayerTooLarge { limit: DISK_LIMIT, .. }), "{error:?}");
    assert!(store.kept.lock().unwrap().is_empty());

    let many = Fixture::new().with(|boot, layers| {
        let layers: Vec<_> =
            (0..126).map(|_| Layer { key: layers[2].key, nodes: layers[2].nodes }).collect();
        let mut output = tempfile::tempfile().unwrap();
        let image = Digest::of("image");
        assemble(image, boot, &layers, &store, Compression::STANDARD, 2, &mut output, &|_| {})
    });
    assert!(matches!(many, Err(Error::TooManyPartitions { layers: 126, limit: 125 })), "{many:?}");
}

#[test]
fn failures_are_told_apart() {
    struct Full;
    impl SegmentStore for Full {
        fn find(&self, _key: &Digest) -> Option<PathBuf> {
            None
        }
        fn keep(
            &self,
            _key: &Digest,
            write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
        ) -> io::Result<PathBuf> {
            struct Nowhere;
            impl Write for Nowhere {
                fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                    Err(io::ErrorKind::StorageFull.into())
                }
                fn flush(&mut self) -> io::Result<()> {
                    Ok(())
                }
            }
            write(&mut Nowhere)?;
            panic!("a failure to write was overlooked");
        }
    }
    let error = Fixture::new().assemble(&Full, 2).unwrap_err();
    let Error::Store(source) = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);

    // A layer whose file is shorter than its index says.
    let short = tempfile::tempfile().unwrap();
    let nodes = || Ok(sparse_nodes(&short, 1 << 20));
    let layer = Layer { key: Digest::of("short"), nodes: &nodes };
    let store = Segments::new();
    let error = prepare(&layer, &store, Compression::STANDARD, 2).unwrap_err();
    assert!(matches!(error, Error::Read(_)), "{error:?}");
    assert!(store.kept.lock().unwrap().is_empty());

    let mut read_only = File::open("/dev/null").unwrap();
    let result = Fixture::new().with(|boot, layers| {
        let image = Digest::of("image");
        assemble(image, boot, layers, &store, Compression::STANDARD, 2, &mut read_only, &|_| {})
    });
    assert!(matches!(result, Err(Error::Write(_))), "{result:?}");
}
