//! Layers that machines share, in a registry where anybody may say anything.

use imgbuild::build::{Obtained, SharedLayers};
use imgbuild::digest::Digest;
use imgbuild::progress::Silent;
use imgbuild::publish::layers::{LAYER_TYPE, RECORD, RegistryLayers, Voucher};
use imgbuild::registry::{Descriptor, MANIFEST, Manifest, Repository, Which};
use imgbuild::store::Store;

use super::images::ALL;
use super::support::oci::{Fault, Reply, in_memory};
use super::{bytes, repository, settings, store};

const KIND: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

fn packed(archive: &[u8]) -> Vec<u8> {
    zstd::encode_all(archive, 3).unwrap()
}

/// What a store remembers of a layer with this digest and size.
fn layer(digest: Digest, size: u64) -> serde_json::Value {
    serde_json::json!({
        "digest": digest, "size": size, "entries": 1, "epoch": 3,
        "accounts": { "passwd": "", "group": "" }, "seconds": 1.5,
    })
}

fn tag(key: &Digest) -> Which {
    Which::Tag(format!("layer-{key}").parse().unwrap())
}

/// Says that the layer of `key` is an archive with this digest and size, packed in `blob`.
fn say(repository: &Repository, key: &Digest, (digest, size): (Digest, u64), blob: &[u8]) {
    let record = serde_json::json!({ "key": key, "layer": layer(digest, size) });
    let mut manifest = Manifest::new(LAYER_TYPE, vec![Descriptor::of(KIND, blob)]);
    manifest.annotations.insert(RECORD.to_owned(), record.to_string());
    repository.put_manifest(&tag(key), MANIFEST, &manifest.to_bytes()).unwrap();
    repository.push_bytes(blob).unwrap();
}

/// What comes of the layer of `key`: nothing, or why it is not taken.
fn take(repository: &Repository, key: &Digest, store: &Store) -> Result<(), String> {
    let layers = RegistryLayers::taking(repository.clone(), Voucher::default());
    match layers.obtain(key, "app packages", store, &Silent) {
        Ok(Obtained::Layer { record, .. }) => {
            assert!(store.blob(&record.digest).is_some());
            Ok(())
        }
        Ok(Obtained::Build(_)) => panic!("there is a layer"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn what_the_store_had_before_stays_there_whoever_says_that_it_is_a_layer() {
    let server = in_memory(ALL);
    let repository = repository(&server.host(), settings());
    let archive = bytes(20_000);
    let own = (Digest::of(&archive), 20_000);
    let cases = [
        ("a package", b"a package".to_vec(), "cannot be decompressed"),
        ("another layer", packed(b"another"), "the archive of the layer is"),
        ("the layer itself", packed(&archive), ""),
    ];
    for (index, (what, blob, told)) in cases.iter().enumerate() {
        let key = Digest::of([index as u8]);
        say(&repository, &key, own, blob);
        for was_there in [true, false] {
            let (_directory, store) = store();
            if was_there {
                store.insert_bytes(blob).unwrap();
            }
            let taken = take(&repository, &key, &store);
            let is_there = store.blob(&Digest::of(blob)).is_some();
            assert_eq!(is_there, was_there, "{what}");
            match told.is_empty() {
                true => taken.unwrap(),
                false => assert!(taken.unwrap_err().contains(told), "{what}"),
            }
        }
    }
}

#[test]
fn another_layer_that_came_while_one_was_built_or_pushed_is_told_of() {
    let archive = bytes(20_000);
    let other = bytes(20_001);
    // How often it is not seen yet: before it is packed, before it is put, and after that.
    for unseen in 0..3 {
        let server = in_memory(ALL);
        let repository = repository(&server.host(), settings());
        let (_directory, store) = store();
        let key = Digest::of("key");
        let layers = RegistryLayers::giving(repository.clone(), Voucher::default());
        let Ok(Obtained::Build(pledge)) = layers.obtain(&key, "app packages", &store, &Silent)
        else {
            panic!("there is a layer");
        };
        say(&repository, &key, (Digest::of(&other), 20_001), &packed(&other));
        let theirs = repository.manifest(&tag(&key)).unwrap().unwrap();
        for _ in 0..unseen.min(2) {
            server.fault("GET", "/manifests/layer-", Fault::Instead(Reply::new(404)));
        }
        if unseen == 2 {
            // Whoever is later has put theirs after ours.
            server.fault(
                "GET",
                "/manifests/layer-",
                Fault::Change(Box::new(move |reply| {
                    let digest = format!("sha256:{}", theirs.digest);
                    reply.header("Docker-Content-Digest", digest).body(theirs.bytes.clone())
                })),
            );
        }
        let built = store.insert_bytes(&archive).unwrap();
        let record = serde_json::from_value(layer(Digest::of(&archive), 20_000)).unwrap();
        let error = pledge.keep(&record, built.path(), &store, &Silent).unwrap_err();
        assert!(error.to_string().contains("and elsewhere from the same inputs as"), "{error}");
        assert!(!server.has_faults());
    }
}

#[test]
fn little_that_is_said_to_become_much_is_not_even_fetched() {
    let server = in_memory(ALL);
    let repository = repository(&server.host(), settings());
    let (_directory, store) = store();
    let archive = vec![0; 1 << 20];
    let blob = packed(&archive);
    let key = Digest::of("key");
    for size in [10 << 30, u64::MAX, 0] {
        say(
            &repository,
            &key,
            (Digest::of(&archive), size),
            &[blob.clone(), bytes(70_000)].concat(),
        );
        server.take_seen();
        let told = take(&repository, &key, &store).unwrap_err();
        assert!(told.contains("are not the packed form of an archive of"), "{told}");
        assert!(server.take_seen().iter().all(|asked| !asked.path.contains("/blobs/")));
    }
    say(&repository, &key, (Digest::of(&archive), 1000), &blob);
    let told = take(&repository, &key, &store).unwrap_err();
    assert!(told.contains("longer than 1000 bytes"), "{told}");
    say(&repository, &key, (Digest::of(&archive), 1 << 20), &blob);
    take(&repository, &key, &store).unwrap();
}
