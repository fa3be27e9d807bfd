//! What is about a manifest: bills of materials, signatures, and the like.
//!
//! Registries of version 1.1 of the specification keep the list. For others, such as Debian's, whoever pushes keeps it,
//! under a tag made of the digest ("Referrers Tag Schema"). Two that push for the same manifest at the same
//! time can lose one of their entries there. So the list is read once more after it was put, and put again if an entry
//! is not in it; that makes it unlikely, and only a registry with a list of its own makes it impossible.

use ureq::http::{HeaderMap, Method, StatusCode, header};

use super::address::resolve;
use super::document::{Descriptor, INDEX, Index, List, TITLE};
use super::http::{Answer, Call};
use super::{Error, Found, Repository, Which};
use crate::digest::Digest;
use crate::fetch::origin::is_same_origin;
use crate::fetch::source::text;
use crate::fetch::token::ACCEPT;
use crate::fetch::{Failure, retry};

/// Most pages of a list.
const MOST_PAGES: usize = 100;

/// How often a list is put until an entry stays in it.
const TRIES: u32 = 5;

/// The end of a tag for registries that take the one of the specification for the digest that it is made of, and give
/// the image itself in the place of its list. GitLab's does.
const OTHER: &str = ".referrers";

/// What the list of `digest` is tagged with where a registry keeps none.
fn fallback(digest: &Digest, end: &str) -> Which {
    let tag = format!("sha256-{digest}{end}");
    Which::Tag(tag.parse().expect("`sha256-`, 64 digits and a word are a tag"))
}

/// Whether this is how a registry answers that does not know lists: with 404, as the specification has it, or because
/// it knows no such path, method or type.
fn knows_no_lists(code: u16) -> bool {
    matches!(code, 400 | 404 | 405 | 406 | 501)
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
        // What is something else, or broken, is no list.
        if let (_, Some(Found { media_type, bytes, .. })) = self.own_list(digest)?
            && media_type == INDEX
            && let Ok(index) = serde_json::from_slice(&bytes)
        {
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
            let (headers, bytes) = match self.document(&call, &what)? {
                Answer::Document(headers, bytes) => (headers, bytes),
                Answer::Other(response)
                    if page == 0 && knows_no_lists(response.status().as_u16()) =>
                {
                    return Ok(None);
                }
                Answer::Other(response) => return Err(self.refused(what(), response)),
            };
            // Some answer whatever they do not know with a page for people.
            let kind = text(&headers, header::CONTENT_TYPE).and_then(|text| text.split(';').next());
            if page == 0 && kind.is_some_and(|kind| kind.trim() != INDEX) {
                return Ok(None);
            }
            let next = next_page(&headers);
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

    /// Where those who push keep the list of what is about `subject`, and what is there.
    fn own_list(&self, subject: &Digest) -> Result<(Which, Option<Found>), Error> {
        let tag = fallback(subject, "");
        match self.manifest(&tag)? {
            Some(found) if found.digest == *subject => {
                let tag = fallback(subject, OTHER);
                let found = self.manifest(&tag)?;
                Ok((tag, found))
            }
            found => Ok((tag, found)),
        }
    }

    /// Adds `entry` to the list of what is about `subject`.
    pub(super) fn list(&self, subject: &Digest, entry: &Descriptor) -> Result<(), Error> {
        self.change_list(subject, &|list| list.add(entry))
    }

    /// Takes the manifest `digest` out of the list of what is about `subject`, if the registry keeps none.
    pub(super) fn unlist(&self, subject: &Digest, digest: &Digest) -> Result<(), Error> {
        if self.kept_list(subject, &|_| false, 0)?.is_some() {
            return Ok(());
        }
        self.change_list(subject, &|list| list.retain(|it| it != Some(*digest)))
    }

    /// Changes the list of what is about `subject` until `change`, which says whether it did anything, has nothing
    /// more to do.
    fn change_list(
        &self,
        subject: &Digest,
        change: &dyn Fn(&mut List) -> bool,
    ) -> Result<(), Error> {
        let _turn = self.shared.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let policy = self.fetcher().policy();
        for tried in 1..=TRIES {
            if tried > 2 {
                // Somebody else was at it: not at the same time again.
                std::thread::sleep(retry::pause(policy, tried - 1, &Failure::Timeout));
            }
            let (tag, found) = self.own_list(subject)?;
            let mut list = match &found {
                None => List::default(),
                Some(found) => self.read_list(&tag, found)?,
            };
            if !change(&mut list) {
                return Ok(());
            }
            match self.put_manifest(&tag, INDEX, &list.to_bytes()) {
                // Registries may refuse a list with something in it that was deleted by others.
                Err(Error::Refused { code: 400 | 404, .. }) if self.drop_deleted(&mut list)? => {
                    self.put_manifest(&tag, INDEX, &list.to_bytes())?;
                }
                put => drop(put?),
            }
        }
        // The last one that was put was not read again; whoever came in between has read it.
        Ok(())
    }

    /// Takes out of `list` what the registry no longer has. Returns whether there was anything.
    fn drop_deleted(&self, list: &mut List) -> Result<bool, Error> {
        let mut deleted = Vec::new();
        for digest in list.digests() {
            let which = Which::Digest(digest);
            let what = || format!("look for {}", self.location().with(which.clone()));
            let call =
                Call::new(Method::HEAD, self.manifest_url(&which)).header(header::ACCEPT, ACCEPT);
            let response = self.patiently(&call).map_err(|trouble| trouble.into_error(&what()))?;
            if response.status() == StatusCode::NOT_FOUND {
                deleted.push(digest);
            }
        }
        Ok(list.retain(|it| it.is_none_or(|digest| !deleted.contains(&digest))))
    }

    fn read_list(&self, tag: &Which, found: &Found) -> Result<List, Error> {
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
