//! Package URLs: names of packages that programs of different makers understand alike.
//!
//! ECMA-427, the text of <https://github.com/package-url/purl-spec> (docs/specification/standard), and its
//! definitions of the types `deb`, `gem`, `git`-like `generic` and `oci` (docs/types/definitions).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is escaped: everything but letters, digits, `.-_~` and the colon (clause *Character encoding*).
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~').remove(b':');

/// A package URL in canonical form: names of types that are not case sensitive in lower case, qualifiers sorted.
///
/// A qualifier without value is left out.
pub fn purl(
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    version: Option<&str>,
    qualifiers: &[(&str, &str)],
) -> String {
    let escape = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let namespace = namespace.map(|it| format!("{}/", escape(it))).unwrap_or_default();
    let version = version.map(|it| format!("@{}", escape(it))).unwrap_or_default();
    let mut qualifiers: Vec<String> = qualifiers
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}={}", escape(value)))
        .collect();
    qualifiers.sort();
    let mark = if qualifiers.is_empty() { "" } else { "?" };
    let qualifiers = qualifiers.join("&");
    format!("pkg:{kind}/{namespace}{}{version}{mark}{qualifiers}", escape(name))
}

/// That of a Debian package, or, for the architecture `source`, of a source package.
///
/// `vendor` is what os-release(5) calls `ID`, `release` what it calls `VERSION_CODENAME`.
pub fn deb(vendor: &str, name: &str, version: &str, architecture: &str, release: &str) -> String {
    let (vendor, name) = (vendor.to_lowercase(), name.to_lowercase());
    let qualifiers = [("arch", architecture), ("distro", release)];
    purl("deb", Some(&vendor), &name, Some(version), &qualifiers)
}

/// That of something that is fetched from `url` and has `sha256`, as far as both are known. What RubyGems
/// publishes is known by name.
pub fn generic(name: &str, url: Option<&str>, sha256: Option<&str>) -> String {
    if let Some((gem, version)) = url.and_then(gem) {
        return purl("gem", None, gem, Some(version), &[]);
    }
    let checksum = sha256.map(|digest| format!("sha256:{digest}")).unwrap_or_default();
    let url = url.unwrap_or_default();
    purl("generic", None, name, None, &[("checksum", &checksum), ("download_url", url)])
}

/// That of a commit of a git repository: of GitHub's by name.
pub fn commit(name: &str, url: &str, commit: &str) -> String {
    let path = url.strip_prefix("https://github.com/").map(|path| path.trim_end_matches(".git"));
    if let Some((owner, repository)) = path.and_then(|path| path.split_once('/'))
        && !repository.contains('/')
    {
        let (owner, repository) = (owner.to_lowercase(), repository.to_lowercase());
        return purl("github", Some(&owner), &repository, Some(commit), &[]);
    }
    let location = format!("git+{url}@{commit}");
    purl("generic", None, name, Some(commit), &[("vcs_url", &location)])
}

/// That of an OCI image, given as `REGISTRY/REPOSITORY`, and the digest of its manifest, `sha256:…`.
pub fn oci(image: &str, digest: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image).to_lowercase();
    purl("oci", None, &name, Some(digest), &[("repository_url", image)])
}

/// The name and version of the gem that `url` is of.
fn gem(url: &str) -> Option<(&str, &str)> {
    let path = url.strip_prefix("https://rubygems.org/")?;
    let file = path.strip_prefix("downloads/").or_else(|| path.strip_prefix("gems/"))?;
    // `NAME-VERSION.gem`, or with a platform behind the version, which is not told from it for certain.
    let (name, version) = file.strip_suffix(".gem")?.rsplit_once('-')?;
    version.starts_with(|first: char| first.is_ascii_digit()).then_some((name, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first five are of the specification (docs/types/definitions/deb-definition.md).
    #[test]
    fn debian_packages() {
        for (vendor, name, version, architecture, release, expected) in [
            (
                "debian",
                "curl",
                "7.50.3-1",
                "i386",
                "jessie",
                "curl@7.50.3-1?arch=i386&distro=jessie",
            ),
            ("debian", "dpkg", "1.19.0.4", "amd64", "", "dpkg@1.19.0.4?arch=amd64"),
            ("debian", "attr", "1:2.4.47-2", "source", "", "attr@1:2.4.47-2?arch=source"),
            ("debian", "attr", "1:2.4.47-2+b1", "amd64", "", "attr@1:2.4.47-2%2Bb1?arch=amd64"),
            ("Debian", "CURL", "7.50.3-1", "i386", "", "curl@7.50.3-1?arch=i386"),
            ("debian", "libstdc++6", "14.2.0~a", "amd64", "", "libstdc%2B%2B6@14.2.0~a?arch=amd64"),
        ] {
            let expected = format!("pkg:deb/debian/{expected}");
            assert_eq!(deb(vendor, name, version, architecture, release), expected);
        }
        assert_eq!(
            deb("ubuntu", "dpkg", "1.19.0.4", "amd64", ""),
            "pkg:deb/ubuntu/dpkg@1.19.0.4?arch=amd64"
        );
    }

    #[test]
    fn what_comes_from_elsewhere() {
        let gem = "https://rubygems.org/downloads/ruby-advisory-db-check-0.12.4.gem";
        for (found, expected) in [
            (generic("db", Some(gem), None), "pkg:gem/ruby-advisory-db-check@0.12.4"),
            (generic("a b", None, Some("ab")), "pkg:generic/a%20b?checksum=sha256:ab"),
            (
                generic("openssl", Some("https://openssl.org/s/o.tar.gz"), Some("de4d")),
                "pkg:generic/openssl?checksum=sha256:de4d&download_url=https:%2F%2Fopenssl.org%2Fs%2Fo.tar.gz",
            ),
            (
                commit("spec", "https://github.com/Package-URL/purl-spec.git", "244f"),
                "pkg:github/package-url/purl-spec@244f",
            ),
            (
                commit("bitwarderl", "https://git.fsfe.org/dxtr/bitwarderl", "cc55"),
                "pkg:generic/bitwarderl@cc55?vcs_url=git%2Bhttps:%2F%2Fgit.fsfe.org%2Fdxtr%2Fbitwarderl%40cc55",
            ),
            (
                oci("docker.io/library/debian", "sha256:244f"),
                "pkg:oci/debian@sha256:244f?repository_url=docker.io%2Flibrary%2Fdebian",
            ),
        ] {
            assert_eq!(found, expected);
        }
    }
}
