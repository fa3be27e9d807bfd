//! How long to wait before asking again, and whom to ask first.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::Policy;
use super::error::Failure;

/// The pause before try number `next` (2, 3, …) at a URL that answered with `failure`: doubled each
/// time, between half and all of it at random so that many clients do not come back together, and
/// at least what the server asked for, but never more than [`Policy::max_delay`].
pub(crate) fn pause(policy: &Policy, next: u32, failure: &Failure) -> Duration {
    let doubled = policy.base_delay.saturating_mul(1 << next.saturating_sub(2).min(16));
    // Each `RandomState` has keys of its own, so this is a random number (std documentation).
    let random = RandomState::new().hash_one(next) % 1024;
    let jittered = doubled / 2 + (doubled / 2).mul_f64(random as f64 / 1024.0);
    let asked = match failure {
        Failure::Status { retry_after, .. } => retry_after.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    jittered.max(asked).min(policy.max_delay)
}

/// Remembers hosts that did not answer, so that a dead mirror costs its tries once and not
/// again for every file.
#[derive(Default)]
pub(super) struct Hosts {
    silent: Mutex<HashSet<String>>,
}

impl Hosts {
    /// `urls` in the order to try them: silent hosts last, otherwise as given.
    pub(super) fn in_order<'a>(&self, urls: &'a [String]) -> Vec<&'a str> {
        let silent = self.silent();
        let mut ordered: Vec<_> = urls.iter().map(String::as_str).collect();
        ordered.sort_by_key(|url| silent.contains(host(url)));
        ordered
    }

    /// How often to try `url`: as the policy says, and once if its host was silent.
    pub(super) fn tries(&self, policy: &Policy, url: &str) -> u32 {
        if self.silent().contains(host(url)) { 1 } else { policy.tries.max(1) }
    }

    /// Notes that the host of `url` answers.
    pub(super) fn answers(&self, url: &str) {
        self.silent().remove(host(url));
    }

    /// Notes that the host of `url` did not answer however often it was asked.
    pub(super) fn is_silent(&self, url: &str) {
        self.silent().insert(host(url).to_owned());
    }

    fn silent(&self) -> MutexGuard<'_, HashSet<String>> {
        self.silent.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Scheme, host and port of `url`.
fn host(url: &str) -> &str {
    let start = url.find("://").map_or(0, |position| position + 3);
    let length = url[start..].find('/').unwrap_or(url.len() - start);
    &url[..start + length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_heed_the_server_within_bounds() {
        let policy = Policy {
            base_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(10),
            ..Policy::default()
        };
        let asked = |seconds| Failure::Status {
            code: 503,
            retry_after: Some(Duration::from_secs(seconds)),
        };
        for (next, failure, low, high) in [
            (2, Failure::Timeout, 50, 100),
            (4, Failure::Timeout, 200, 400),
            (2, asked(3), 3_000, 3_000),
            (2, asked(3_600), 10_000, 10_000),
            (u32::MAX, Failure::Timeout, 10_000, 10_000),
        ] {
            let pause = pause(&policy, next, &failure).as_millis();
            assert!((low..=high).contains(&pause), "{next} {failure}: {pause}");
        }
    }

    #[test]
    fn a_silent_host_is_asked_last_and_once() {
        let urls = ["http://a/x".to_owned(), "http://b/x".to_owned()];
        let (hosts, policy) = (Hosts::default(), Policy::default());
        hosts.is_silent("http://a/y");
        assert_eq!(hosts.in_order(&urls), ["http://b/x", "http://a/x"]);
        assert_eq!(hosts.tries(&policy, "http://a/x"), 1);
        hosts.answers("http://a/z");
        assert_eq!(hosts.in_order(&urls), ["http://a/x", "http://b/x"]);
        assert_eq!(hosts.tries(&policy, "http://a/x"), policy.tries);
    }

    #[test]
    fn hosts_are_told_apart_by_port() {
        assert_eq!(host("http://a:1/x/y"), "http://a:1");
        assert_eq!(host("http://a"), "http://a");
        assert_eq!(host("/srv/x"), "");
    }
}
