//! A registry in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use imgbuild::digest::Digest;

use super::{Asked, Reply, Server, lock};

#[derive(Default)]
struct Memory {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    tags: BTreeMap<String, String>,
    uploads: BTreeMap<String, Vec<u8>>,
    /// Uploads that were ever begun.
    begun: usize,
}

/// What the registry in memory can do besides what it must.
#[derive(Clone, Copy)]
pub struct Abilities {
    /// Pieces.
    pub pieces: bool,
    /// The least length of pieces.
    pub least: usize,
    /// A list of what is about a manifest, so many of them a page.
    pub page: usize,
}

/// A registry in memory, whose repositories all have the same things, that keeps to the specification: an upload that broke goes on
/// at the byte that it came to.
pub fn in_memory(abilities: Abilities) -> Server {
    let memory = Mutex::new(Memory::default());
    Server::start(Box::new(move |asked| Some(answer(&mut lock(&memory), abilities, asked))))
}

/// The same, but it takes tags that look like digests for those, as GitLab's registry does.
pub fn in_memory_without_tags_of_digests(abilities: Abilities) -> Server {
    let memory = Mutex::new(Memory::default());
    Server::start(Box::new(move |asked| {
        let mut asked = asked.clone();
        if let Some((start, digest)) = asked.path.split_once("/manifests/sha256-")
            && digest.len() == 64
        {
            asked.path = format!("{start}/manifests/sha256:{digest}");
        }
        Some(answer(&mut lock(&memory), abilities, &asked))
    }))
}

fn answer(memory: &mut Memory, abilities: Abilities, asked: &Asked) -> Reply {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let kinds = ["blobs", "manifests", "referrers"].into_iter();
    let at = |kind: &str| path.find(&format!("/{kind}/"));
    let Some((start, kind)) = kinds.filter_map(|kind| Some((at(kind)?, kind))).next() else {
        return Reply::new(404);
    };
    let (repository, name) = (&path[..start], &path[start + kind.len() + 2..]);
    match (asked.method.as_str(), kind) {
        (_, "blobs") if name.starts_with("uploads/") => {
            let id = &name["uploads/".len()..];
            upload(memory, abilities, asked, (repository, id), query)
        }
        ("GET" | "HEAD", "blobs") => match memory.blobs.get(name) {
            Some(bytes) => part(bytes, asked.header("range")).header("Docker-Content-Digest", name),
            None => Reply::new(404),
        },
        ("GET" | "HEAD", "manifests") => {
            let digest = memory.tags.get(name).map_or(name, String::as_str);
            match memory.manifests.get(digest) {
                Some((kind, bytes)) => Reply::new(200)
                    .header("Content-Type", kind)
                    .header("Docker-Content-Digest", digest)
                    .body(bytes.clone()),
                None => Reply::new(404).body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
            }
        }
        ("PUT", "manifests") => {
            let digest = format!("sha256:{}", Digest::of(&asked.body));
            if name.starts_with("sha256:") && name != digest {
                return Reply::new(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
            }
            let kind = asked.header("content-type").unwrap_or("").to_owned();
            let document: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
            // As Docker's registry: what is in a list has to be there. It does not look at digests that it does not know.
            let listed = document["manifests"].as_array().into_iter().flatten();
            let mut listed = listed.filter_map(|it| it["digest"].as_str());
            if listed.any(|it| it.starts_with("sha256:") && !memory.manifests.contains_key(it)) {
                return Reply::new(400).body(r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#);
            }
            memory.manifests.insert(digest.clone(), (kind, asked.body.clone()));
            memory.tags.insert(name.to_owned(), digest.clone());
            let reply = Reply::new(201).header("Docker-Content-Digest", digest);
            match document["subject"]["digest"].as_str() {
                Some(subject) if abilities.page > 0 => reply.header("OCI-Subject", subject),
                _ => reply,
            }
        }
        ("DELETE", "manifests") => match memory.manifests.remove(name) {
            Some(_) => Reply::new(202),
            None => Reply::new(404),
        },
        ("GET", "referrers") if abilities.page > 0 => {
            referrers(memory, abilities.page, (repository, name), query)
        }
        _ => Reply::new(404),
    }
}

fn referrers(
    memory: &Memory,
    page: usize,
    (repository, subject): (&str, &str),
    query: &str,
) -> Reply {
    let about = |(digest, (kind, bytes)): (&String, &(String, Vec<u8>))| {
        let document: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        (document["subject"]["digest"] == subject).then(|| {
            serde_json::json!({ "mediaType": kind, "digest": digest, "size": bytes.len(),
                "artifactType": document["artifactType"], "annotations": document["annotations"] })
        })
    };
    let all: Vec<_> = memory.manifests.iter().filter_map(about).collect();
    let first: usize = query.strip_prefix("from=").map_or(0, |it| it.parse().unwrap());
    let some: Vec<_> = all.iter().skip(first).take(page).collect();
    let index = serde_json::json!({ "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": some });
    let reply = Reply::new(200).body(index.to_string());
    match first + page < all.len() {
        true => {
            let next =
                format!("<{repository}/referrers/{subject}?from={}>; rel=\"next\"", first + page);
            reply.header("Link", next)
        }
        false => reply,
    }
}

fn part(bytes: &[u8], range: Option<&str>) -> Reply {
    let first =
        range.and_then(|it| it.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match first {
        Some(first) if first < bytes.len() => Reply::new(206)
            .header("Content-Range", format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len()))
            .body(&bytes[first..]),
        Some(_) => Reply::new(416),
        None => Reply::new(200).body(bytes),
    }
}

fn upload(
    memory: &mut Memory,
    abilities: Abilities,
    asked: &Asked,
    (repository, id): (&str, &str),
    query: &str,
) -> Reply {
    let at = |id: &str, length: usize, status: u16| {
        Reply::new(status)
            .header("Location", format!("{repository}/blobs/uploads/{id}?state={length}"))
            .header("Range", format!("0-{}", length.saturating_sub(1)))
    };
    if asked.method == "POST" {
        memory.begun += 1;
        let id = memory.begun.to_string();
        memory.uploads.insert(id.clone(), Vec::new());
        let reply = at(&id, 0, 202);
        return match abilities.least {
            0 => reply,
            least => reply.header("OCI-Chunk-Min-Length", least.to_string()),
        };
    }
    let Some(bytes) = memory.uploads.get_mut(id) else { return Reply::new(404) };
    match asked.method.as_str() {
        "GET" => at(id, bytes.len(), 204),
        "PATCH" if !abilities.pieces => Reply::new(405),
        "PATCH" => {
            let first =
                asked.header("content-range").and_then(|it| it.split('-').next()?.parse().ok());
            if first != Some(bytes.len()) {
                return at(id, bytes.len(), 416);
            }
            bytes.extend(&asked.body);
            at(id, bytes.len(), 202)
        }
        "PUT" => {
            let digest = query.rsplit("digest=").next().unwrap_or("").to_owned();
            bytes.extend(&asked.body);
            let bytes = memory.uploads.remove(id).unwrap();
            if digest != format!("sha256:{}", Digest::of(&bytes)) {
                return Reply::new(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
            }
            memory.blobs.insert(digest.clone(), bytes);
            Reply::new(201).header("Location", format!("{repository}/blobs/{digest}"))
        }
        _ => {
            memory.uploads.remove(id);
            Reply::new(204)
        }
    }
}
