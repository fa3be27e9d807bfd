//! What a registry says that it wants to be told (RFC 6750, section 3; Docker's "Token Authentication Specification").

/// What is to be done by whoever pushes.
pub(crate) const PUSH: &str = "pull,push";

/// What a registry wants (RFC 6750, section 3).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

/// Whether a registry wants a name and a password.
pub(super) fn is_basic(text: &str) -> bool {
    let scheme = text.trim().split(' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("basic")
}

/// Reads `Bearer realm="…",service="…",scope="…"`.
pub(super) fn parse(text: &str) -> Option<Challenge> {
    let (scheme, mut rest) = text.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut challenge = Challenge::default();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        let Some((name, after)) = rest.split_once('=') else { break };
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "realm" => challenge.realm = value.to_owned(),
            "service" => challenge.service = Some(value.to_owned()),
            "scope" => challenge.scope = Some(value.to_owned()),
            _ => {}
        }
        rest = after;
    }
    (!challenge.realm.is_empty()).then_some(challenge)
}

impl Challenge {
    /// The URL of who gives tokens for `repository`, the URL of one.
    pub(super) fn realm(&self, repository: &str) -> Result<&str, &'static str> {
        let realm = &self.realm;
        let is_plain = realm.starts_with("http://") && repository.starts_with("http://");
        let is_url = realm.bytes().all(|byte| byte.is_ascii_graphic()) && !realm.contains('#');
        if !is_url || !(realm.starts_with("https://") || is_plain) {
            return Err("it names no https:// URL for one");
        }
        Ok(realm)
    }

    /// What the token is for: the `actions` on `repository`, or what the registry says. Those that delete are told in
    /// many ways: some registries take `push` for it, others want `delete`. It is asked for only by whoever may push.
    pub(super) fn fields(
        &self,
        repository: &str,
        actions: Option<&str>,
    ) -> Vec<(&'static str, String)> {
        let name = repository.split_once("/v2/").map_or("", |(_, name)| name);
        let scope = match (actions, &self.scope) {
            (None, Some(scope)) => scope.clone(),
            (Some(PUSH), Some(scope)) if asks_for_delete(scope, name) => {
                format!("repository:{name}:{PUSH},delete")
            }
            _ => format!("repository:{name}:{}", actions.unwrap_or("pull")),
        };
        let service = self.service.iter().map(|service| ("service", service.clone()));
        service.chain([("scope", scope)]).collect()
    }
}

/// Whether `scope` has the right to delete in the repository `name` (Docker's "Token Scope Documentation").
fn asks_for_delete(scope: &str, name: &str) -> bool {
    let actions = |it: &str| {
        it.strip_prefix("repository:")?.strip_prefix(name)?.strip_prefix(':').map(str::to_owned)
    };
    scope.split(' ').filter_map(actions).any(|it| it.split(',').any(|action| action == "delete"))
}

/// The URL that gives a token for anybody who wants to pull from `repository`, if `challenge` is the answer of a
/// registry that gives any.
#[cfg(any(test, fuzzing))]
pub(crate) fn address_of_tokens(
    challenge: &str,
    repository: &str,
) -> Option<Result<String, &'static str>> {
    let challenge = parse(challenge)?;
    let realm = challenge.realm(repository);
    Some(realm.map(|realm| address(realm, &challenge.fields(repository, None))))
}

pub(super) fn address(realm: &str, fields: &[(&'static str, String)]) -> String {
    let mark = if realm.contains('?') { '&' } else { '?' };
    format!("{realm}{mark}{}", query(fields))
}

/// `fields` as a query.
pub(super) fn query(fields: &[(&'static str, String)]) -> String {
    let pairs: Vec<_> =
        fields.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    pairs.join("&")
}

/// `text` as a value of a query (RFC 3986, section 3.4).
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z'
        | b'A'..=b'Z'
        | b'0'..=b'9'
        | b'-'
        | b'.'
        | b'_'
        | b'~'
        | b':'
        | b'/'
        | b',' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let repository = "https://registry-1.docker.io/v2/a/b";
        let docker = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",\
                      scope=\"repository:a/b:pull\"";
        let cases = [
            (
                docker,
                Some(
                    "https://auth.docker.io/token?service=registry.docker.io&scope=repository:a/b:pull",
                ),
            ),
            ("bearer realm=\"https://x/t?a=1\"", Some("https://x/t?a=1&scope=repository:a/b:pull")),
            (
                "Bearer error=\"x, y\", realm=\"https://x/t\", scope=\"a b&c\"",
                Some("https://x/t?scope=a%20b%26c"),
            ),
            ("Bearer realm=\"http://x/t\"", None),
            ("Bearer realm=\"file:///etc/passwd\"", None),
            ("Bearer realm=\"https://x/ t\"", None),
            ("Basic realm=\"https://x/t\"", None),
            ("Bearer realm=\"https://x", None),
            ("Bearer", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = parse(text).and_then(|challenge| {
                let realm = challenge.realm(repository).ok()?;
                let mark = if realm.contains('?') { '&' } else { '?' };
                Some(format!("{realm}{mark}{}", query(&challenge.fields(repository, None))))
            });
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
