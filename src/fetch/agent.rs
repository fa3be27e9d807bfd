//! The HTTP client: one connection pool, explicit time limits, each host name resolved once.

use std::collections::HashMap;
use std::sync::Mutex;

use ureq::Agent;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::Policy;

/// Connections that are kept open for reuse, over all hosts and per host. More than anybody
/// downloads at once.
const IDLE_CONNECTIONS: usize = 64;

/// An agent that keeps to `policy`. Servers are vouched for by the `authorities`, or those that browsers know.
pub(super) fn agent(policy: &Policy, authorities: Option<RootCerts>) -> Agent {
    let limit = Some(policy.patience);
    let mut config = Agent::config_builder()
        .user_agent(concat!("imgbuild/", env!("CARGO_PKG_VERSION")))
        // A content coding would be undone before hashing, or not be undone and hash wrong.
        .accept_encoding("identity")
        .http_status_as_error(false)
        .max_redirects(5)
        .max_idle_connections(IDLE_CONNECTIONS)
        .max_idle_connections_per_host(IDLE_CONNECTIONS)
        .timeout_resolve(limit)
        .timeout_connect(limit)
        .timeout_send_request(limit)
        .timeout_recv_response(limit)
        // A body may take as long as it needs while bytes keep coming.
        .timeout_per_read(limit)
        .timeout_per_write(limit);
    if let Some(authorities) = authorities {
        config = config.tls_config(TlsConfig::builder().root_certs(authorities).build());
    }
    if !policy.proxy_from_environment {
        config = config.proxy(None);
    }
    Agent::with_parts(config.build(), DefaultConnector::default(), CachingResolver::default())
}

/// Resolves each host name once. As it comes, ureq does so for every request, even when it reuses a
/// connection, and many lookups at once make some resolvers fail.
#[derive(Debug, Default)]
struct CachingResolver {
    inner: DefaultResolver,
    known: Mutex<HashMap<String, ResolvedSocketAddrs>>,
}

impl Resolver for CachingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let name = match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => DefaultResolver::host_and_port(scheme, authority),
            _ => None,
        };
        let Some(name) = name else { return self.inner.resolve(uri, config, timeout) };
        // Held during the lookup, so that threads that start together ask once.
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(addresses) = known.get(&name) {
            return Ok(addresses.clone());
        }
        let addresses = self.inner.resolve(uri, config, timeout)?;
        known.insert(name, addresses.clone());
        Ok(addresses)
    }
}
