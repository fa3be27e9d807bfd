//! What is about a manifest: bills of materials, signatures, and the like.
//!
//! Registries of version 1.1 of the specification keep the list. For others, such as Debian's, whoever pushes keeps it,
//! under a tag made of the digest ("Referrers Tag Schema"). Two that push for the same manifest at the same
//! time can lose one of their entries there. So the list is read once more after it was put, and put again if an entry
//! is not in it; that makes it unlikely, and only a registry with a list of its own makes it impossible.

use ureq::http::{HeaderMap, Method, StatusCode, header};

use super::address::resolve;
use super::document::{Descriptor, INDEX, Index, TITLE};
use super::http::{Call, read_all};
use super::{Error, Found, Repository, Which};
use crate::digest::Digest;
use crate::fetch::origin::is_same_origin;
use crate::fetch::{Failure, MOST_MANIFEST, retry};

/// Most pages of a list.
const MOST_PAGES: usize = 100;

/// How often a list is put until an entry stays in it.
const TRIES: u32 = 5;

/// What the list of `digest` is tagged with where a registry keeps none.
fn fallback(digest: &Digest) -> Which {
    let tag = format!("sha256-{digest}");
    Which::Tag(tag.parse().expect("`sha256-` and 64 digits are a tag"))
}

impl Repository {
    /// Those manifests that are about the one with this digest and that are `wanted`, but no more than `most` of them. Of
    /// their annotations only the name of a file is kept: there may be much in them.
    ///
    /// # Errors
    /// Those of [`Repository::manifest`].
    pub fn referrers(
        &self,
        digest: &Digest,
        wanted: &dyn Fn(&Descriptor) -> bool,
        most: usize,
    ) -> Result<Vec<Descriptor>, Error> {
        if let Some(list) = self.kept_list(digest, wanted, most)? {
            return Ok(list);
        }
        let mut list = Vec::new();
        if let Some(index) = self.own_list(digest)? {
            add(&mut list, index, wanted, most);
        }
        Ok(list)
    }

    /// What is wanted of the list that the registry keeps, which is read no further than needed. None: it keeps none.
    fn kept_list(
        &self,
        digest: &Digest,
        wanted: &dyn Fn(&Descriptor) -> bool,
        most: usize,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let what = || format!("list what is about sha256:{digest} in {}", self.location());
        let mut url = format!("{}/referrers/sha256:{digest}", self.location().url());
        let mut list = Vec::new();
        for page in 0..MOST_PAGES {
            let call = Call::new(Method::GET, &url).header(header::ACCEPT, INDEX);
            let response = self.patiently(&call).map_err(|trouble| trouble.into_error(&what()))?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND if page == 0 => return Ok(None),
                _ => return Err(self.refused(what(), response)),
            }
            let next = next_page(response.headers());
            let bytes = read_all(response, MOST_MANIFEST)
                .map_err(|failure| Error::Unreachable { what: what(), failure })?;
            let index: Index = serde_json::from_slice(&bytes)
                .map_err(|error| Error::Document { what: what(), why: error.to_string() })?;
            add(&mut list, index, wanted, most);
            let Some(next) = next.filter(|_| list.len() < most) else { return Ok(Some(list)) };
            url = match resolve(&url, &next) {
                Ok(next) if is_same_origin(&url, &next) => next,
                _ => {
                    let why = "its list goes on at another server".to_owned();
                    return Err(Error::Lie { what: what(), why });
                }
            };
        }
        Err(Error::Lie { what: what(), why: format!("its list has more than {MOST_PAGES} pages") })
    }

    /// The list that those who push keep. None if there is none, or something else in its place.
    fn own_list(&self, digest: &Digest) -> Result<Option<Index>, Error> {
        let Some(Found { media_type, bytes, .. }) = self.manifest(&fallback(digest))? else {
            return Ok(None);
        };
        Ok(if media_type == INDEX { serde_json::from_slice(&bytes).ok() } else { None })
    }

    /// Adds `entry` to the list of what is about `subject`.
    pub(super) fn list(&self, subject: &Digest, entry: Descriptor) -> Result<(), Error> {
        self.change_list(subject, &|index| {
            if index.manifests.iter().any(|it| it.digest == entry.digest) {
                return false;
            }
            index.manifests.push(entry.clone());
            // The same entries make the same list, whoever was first.
            index.manifests.sort_by_key(|it| it.digest);
            true
        })
    }

    /// Takes the manifest `digest` out of the list of what is about `subject`, if the registry keeps none.
    pub(super) fn unlist(&self, subject: &Digest, digest: &Digest) -> Result<(), Error> {
        if self.kept_list(subject, &|_| false, 0)?.is_some() {
            return Ok(());
        }
        self.change_list(subject, &|index| {
            let before = index.manifests.len();
            index.manifests.retain(|it| it.digest != *digest);
            index.manifests.len() != before
        })
    }

    /// Changes the list of what is about `subject` until `change`, which says whether it did anything, has nothing
    /// more to do.
    fn change_list(
        &self,
        subject: &Digest,
        change: &dyn Fn(&mut Index) -> bool,
    ) -> Result<(), Error> {
        let _turn = self.shared.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (tag, policy) = (fallback(subject), self.fetcher().policy());
        for tried in 1..=TRIES {
            if tried > 2 {
                // Somebody else was at it: not at the same time again.
                std::thread::sleep(retry::pause(policy, tried - 1, &Failure::Timeout));
            }
            let found = self.manifest(&tag)?;
            let mut index = match &found {
                None => Index::default(),
                Some(found) => self.read_list(&tag, found)?,
            };
            if !change(&mut index) {
                return Ok(());
            }
            self.put_manifest(&tag, INDEX, &index.to_bytes())?;
        }
        // The last one that was put was not read again; whoever came in between has read it.
        Ok(())
    }

    fn read_list(&self, tag: &Which, found: &Found) -> Result<Index, Error> {
        let document = |why: String| {
            let what = format!("change {}", self.location().with(tag.clone()));
            Error::Document { what, why }
        };
        if found.media_type != INDEX {
            let why = format!("it is `{}`, and not the list that it should be", found.media_type);
            return Err(document(why));
        }
        serde_json::from_slice(&found.bytes).map_err(|error| document(error.to_string()))
    }
}

/// Adds those entries of `index` to `list` that are `wanted`, until there are `most`.
fn add(
    list: &mut Vec<Descriptor>,
    index: Index,
    wanted: &dyn Fn(&Descriptor) -> bool,
    most: usize,
) {
    let some = index.manifests.into_iter().filter(|it| wanted(it)).take(most - list.len());
    list.extend(some.map(|mut entry| {
        entry.annotations.retain(|name, _| name == TITLE);
        entry
    }));
}

/// Where a list goes on: `<URL>; rel="next"` (RFC 8288, section 3).
fn next_page(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::LINK)?.to_str().ok()?;
    let (url, rest) = value.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = rest.split(';').any(|it| matches!(it.trim(), "rel=\"next\"" | "rel=next"));
    is_next.then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_further_pages_are_read() {
        let cases = [
            ("</v2/a/referrers/x?n=2>; rel=\"next\"", Some("/v2/a/referrers/x?n=2")),
            ("<x>;rel=next", Some("x")),
            ("<x>; rel=\"prev\"", None),
            ("x; rel=\"next\"", None),
        ];
        for (value, expected) in cases {
            let headers = HeaderMap::from_iter([(header::LINK, value.parse().unwrap())]);
            assert_eq!(next_page(&headers).as_deref(), expected, "{value}");
        }
    }
}
