//! What comes back from a registry can be verified, whatever others have put there.

use std::fs;

use imgbuild::digest::Digest;
use imgbuild::registry::{
    Access, CredentialFiles, Descriptor, Location, MANIFEST, Manifest, Registry, Settings, Which,
};

use super::support::oci::{Abilities, Fault, Reply, Server, in_memory};
use super::support::project::Ended;
use super::{Files, ago, built};

const KIND: &str = "application/vnd.imgbuild.signature.v1";

impl Files<'_> {
    fn succeed(&self, arguments: &[&str]) -> String {
        let ended = Ended::from(self.command(arguments).output().unwrap());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended.stdout.trim_end().to_owned()
    }
}

#[test]
fn an_image_that_was_signed_again_and_again_verifies_where_nothing_is_deleted() {
    let Some(built) = built() else { return };
    let memory = in_memory(Abilities { pieces: true, least: 0, page: 3 });
    let server = Server::before(&memory.host());
    let files = built.signed();
    let artifact = files.of(".tar.zst").display().to_string();
    let to = format!("{}/campus", server.host());
    for round in 0..6 {
        files.sign_again("ci", "imgbuild", ago(1000 - 100 * round));
        for _ in 0..round {
            server.fault("DELETE", "manifests", Fault::Instead(Reply::new(405)));
        }
        let reference = files.succeed(&["push", &artifact, "--to", &to]);
        // Somebody's list with a lower digest than the one that counts.
        forge(&server, &reference, &files);
        let pulled = built.copy();
        for ending in [".tar.zst", ".manifest.json"] {
            fs::remove_file(pulled.of(ending)).unwrap();
        }
        let out = pulled.directory.path().display().to_string();
        pulled.succeed(&["pull", &reference, "--out", &out]);
        let signed = fs::read_to_string(files.of(".sha256sums")).unwrap();
        assert_eq!(fs::read_to_string(pulled.of(".sha256sums")).unwrap(), signed);
        pulled.trusted();
    }
}

/// Pushes garbage that is said to be a signature of the image.
fn forge(server: &Server, reference: &str, files: &Files<'_>) {
    let location: Location = format!("{}/campus/app", server.host()).parse().unwrap();
    let settings = Settings { credentials: CredentialFiles::none(), ..Settings::new(Access::Push) };
    let repository = Registry::new(location.origin(), settings).repository(&location);
    let digest: Digest = reference.rsplit(':').next().unwrap().parse().unwrap();
    let subject = repository.manifest(&Which::Digest(digest)).unwrap().unwrap().descriptor();
    let own = Digest::of(fs::read(files.of(".sha256sums")).unwrap());
    let garbage = (0..).map(|number| format!("garbage {number}\n"));
    let garbage = { garbage }.find(|text| Digest::of(text) < own).unwrap();
    let layer = |ending: &str, kind: &str| {
        repository.push_bytes(garbage.as_bytes()).unwrap();
        let name = format!("{}{ending}", files.built.stem);
        Descriptor::of(kind, garbage.as_bytes()).titled(&name)
    };
    let layers = vec![
        layer(".sha256sums", "text/plain"),
        layer(".sha256sums.sig", "application/vnd.imgbuild.sshsig"),
    ];
    let bytes = Manifest::new(KIND, layers).about(subject).to_bytes();
    repository.put_manifest(&Which::Digest(Digest::of(&bytes)), MANIFEST, &bytes).unwrap();
}
