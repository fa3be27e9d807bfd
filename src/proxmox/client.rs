//! Calls: connections, the token, and what is tried again.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Call, Error, Method, Reason};
use super::http::{Answer, Connection, Endpoint, Failure};
use super::request::{Parameters, Path};
use super::token::Token;
use super::trust::Trust;

/// The port of pveproxy.
const PORT: u16 = 8006;
/// Servers close a connection that has been idle for 5 s (`PVE/APIServer/AnyEvent.pm`).
const IDLE: Duration = Duration::from_secs(4);

/// How long a client waits, and how long it rests in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// How long to wait for a connection.
    pub connect: Duration,
    /// How long to wait for an answer. Servers end a call for another node after 30 s themselves, and all that
    /// takes longer is a task (`PVE/APIServer/AnyEvent.pm`).
    pub answer: Duration,
    /// After how long the caller hears of an upload of which the server takes nothing.
    pub stall: Duration,
    /// Before a read is tried again; as often as there are pauses.
    pub again: Vec<Duration>,
    /// Before the state of a task is looked at for the second time. Each pause is twice as long as the last.
    pub first_look: Duration,
    /// The longest pause between two looks at a task.
    pub longest_look: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(40),
            stall: Duration::from_secs(5),
            again: [200, 1000, 3000].map(Duration::from_millis).to_vec(),
            first_look: Duration::from_millis(100),
            longest_look: Duration::from_secs(2),
        }
    }
}

/// The API of a Proxmox VE node, and by it of its cluster.
///
/// It can be used from several threads at once.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    /// `HOST:PORT`.
    authority: String,
    token: Token,
    pace: Pace,
    idle: Mutex<Option<Connection>>,
}

/// A URL that is no address of a Proxmox server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("`{url}` is no address of a Proxmox server: {why}")]
#[diagnostic(help("expected `https://HOST:8006`"))]
pub struct UrlError {
    url: String,
    why: &'static str,
}

impl Client {
    /// A client for the server at `url`, `https://HOST[:PORT]`. Connects when something is asked.
    ///
    /// Proxies of the environment are not used: nodes are in the operator's own network, and no proxy
    /// shall have the token.
    ///
    /// # Errors
    ///
    /// When `url` is none, has another scheme, or has a path.
    pub fn new(url: &str, trust: &Trust, token: Token) -> Result<Self, UrlError> {
        let error = |why| UrlError { url: url.to_owned(), why };
        let uri: ureq::http::Uri = url.parse().map_err(|_| error("it is no URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(error("it does not begin with `https://`"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(error("it has a path"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(error("it has a user; the token says who asks"));
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| error("its host is neither a name nor an address"))?;
        let endpoint = Endpoint {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(PORT),
            name,
            tls: trust.client_config(),
        };
        let authority = endpoint.authority();
        Ok(Self { endpoint, authority, token, pace: Pace::default(), idle: Mutex::new(None) })
    }

    /// The same client, with other pauses.
    #[must_use]
    pub fn at_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The host and port that it talks to.
    pub fn server(&self) -> &str {
        &self.authority
    }

    /// The name of its token.
    pub fn token_name(&self) -> &str {
        self.token.name()
    }

    /// The server's clock, to the second, by the header `Date` of an answer.
    ///
    /// # Errors
    ///
    /// When no answer can be had, or it has no date.
    pub fn server_time(&self) -> Result<SystemTime, Error> {
        let path = Path::new(["version"]);
        let answer = self.call(Method::Get, &path, Parameters::new())?;
        answer.date.ok_or_else(|| {
            self.error(Method::Get, &path, Reason::Garbled, "the answer has no date")
        })
    }

    /// Reads.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &Path,
        parameters: Parameters,
    ) -> Result<T, Error> {
        let answer = self.call(Method::Get, path, parameters)?;
        self.data(Method::Get, path, answer)
    }

    /// Makes a call that answers with what is read as `T`, mostly the name of a task.
    pub(super) fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &Path,
        parameters: Parameters,
    ) -> Result<T, Error> {
        let answer = self.call(method, path, parameters)?;
        self.data(method, path, answer)
    }

    /// What an answer has, as a `T`.
    pub(super) fn data<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &Path,
        answer: Data,
    ) -> Result<T, Error> {
        serde_json::from_value(answer.data).map_err(|error| {
            let message = format!("the answer is not as expected: {error}");
            self.error(method, path, Reason::Garbled, message)
        })
    }

    /// Makes a call. Reads are tried again when the way or a node fails; nothing else ever is, unless not a
    /// byte of it was sent.
    pub(super) fn call(
        &self,
        method: Method,
        path: &Path,
        parameters: Parameters,
    ) -> Result<Data, Error> {
        let request = self.request(method, path, &parameters);
        let mut pauses = self.pace.again.iter();
        loop {
            let result = self.once(method, path, &request);
            let again = match &result {
                Err(error) => match error.reason() {
                    Reason::Interrupted | Reason::NodeUnreachable(_) => method == Method::Get,
                    Reason::Unreachable => true,
                    _ => false,
                },
                Ok(_) => false,
            };
            match pauses.next() {
                Some(pause) if again => std::thread::sleep(*pause),
                _ => return result,
            }
        }
    }

    fn once(&self, method: Method, path: &Path, request: &[u8]) -> Result<Data, Error> {
        let start = Instant::now();
        let answer = self.exchange(method, request);
        // Without parameters: they may hold what nobody else should see.
        let (method_name, path_text) = (method.name(), path.text());
        let milliseconds = start.elapsed().as_millis();
        match &answer {
            Ok(Answer { status, phrase, .. }) => {
                log::debug!("{method_name} {path_text}: {status} {phrase}, {milliseconds} ms");
            }
            Err(failure) => log::debug!("{method_name} {path_text}: {failure}, {milliseconds} ms"),
        }
        let answer = answer.map_err(|failure| self.broken(method, path, &failure))?;
        self.judge(method, path, &answer)
    }

    /// Sends a request and reads the answer. Only reads use a connection again: whether the server has
    /// closed it meanwhile shows only afterwards, and then nobody knows whether it was done.
    fn exchange(&self, method: Method, request: &[u8]) -> Result<Answer, Failure> {
        let kept = self.idle().take().filter(|kept| !kept.is_older_than(IDLE));
        let reused = kept.filter(|_| method == Method::Get);
        if let Some(connection) = reused {
            match connection.exchange(request) {
                Err(Failure::Interrupted(_)) => {}
                result => return result.map(|(answer, kept)| self.keep(answer, kept)),
            }
        }
        let connection = Connection::open(&self.endpoint, self.pace.connect, self.pace.answer)?;
        connection.exchange(request).map(|(answer, kept)| self.keep(answer, kept))
    }

    fn keep(&self, answer: Answer, connection: Option<Connection>) -> Answer {
        *self.idle() = connection;
        answer
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A connection for one long request, which waits `patience` for the other side.
    pub(super) fn connection(&self, patience: Duration) -> Result<Connection, Failure> {
        Connection::open(&self.endpoint, self.pace.connect, patience)
    }

    /// What is in an answer: data, or an error.
    pub(super) fn judge(
        &self,
        method: Method,
        path: &Path,
        answer: &Answer,
    ) -> Result<Data, Error> {
        if answer.status >= 400 {
            let call = self.about(method, path);
            return Err(Error::answered(&call, answer.status, &answer.phrase, &answer.content));
        }
        #[derive(serde::Deserialize)]
        struct Body {
            data: Value,
            total: Option<u64>,
        }
        let garbled = |message: String| self.error(method, path, Reason::Garbled, message);
        if answer.status != 200 {
            return Err(garbled(format!("unexpected status {} {}", answer.status, answer.phrase)));
        }
        let body: Body = serde_json::from_slice(&answer.content)
            .map_err(|error| garbled(format!("the answer is not Proxmox's JSON: {error}")))?;
        Ok(Data { data: body.data, total: body.total, date: answer.date })
    }

    /// The bytes of a request.
    fn request(&self, method: Method, path: &Path, parameters: &Parameters) -> Vec<u8> {
        let form = parameters.form();
        let in_query = matches!(method, Method::Get | Method::Delete);
        let mut target = path.target();
        if in_query && !form.is_empty() {
            target.extend(["?", &form]);
        }
        let mut head = self.head(method, &target);
        if !in_query {
            head += "Content-Type: application/x-www-form-urlencoded\r\n";
            head += &format!("Content-Length: {}\r\n", form.len());
        }
        head += "\r\n";
        if !in_query {
            head += &form;
        }
        head.into_bytes()
    }

    /// The head of a request, without its end.
    pub(super) fn head(&self, method: Method, target: &str) -> String {
        format!(
            "{} {target} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nUser-Agent: imgbuild/{}\r\n\
             Accept: application/json\r\n",
            method.name(),
            self.authority,
            self.token.authorization(),
            env!("CARGO_PKG_VERSION"),
        )
    }

    fn about(&self, method: Method, path: &Path) -> Call<'_> {
        Call { method, server: &self.authority, path: path.text() }
    }

    pub(super) fn error(
        &self,
        method: Method,
        path: &Path,
        reason: Reason,
        message: impl Into<String>,
    ) -> Error {
        Error::new(&self.about(method, path), reason, message)
    }

    pub(super) fn broken(&self, method: Method, path: &Path, failure: &Failure) -> Error {
        let reason = match failure {
            Failure::Unreachable(_) => Reason::Unreachable,
            Failure::Disbelieved(disbelieved) => {
                Reason::Untrusted { met: Some(disbelieved.met), expected: disbelieved.expected }
            }
            Failure::Tls(_) => Reason::Untrusted { met: None, expected: None },
            Failure::Interrupted(_) => Reason::Interrupted,
            Failure::Garbled(_) => Reason::Garbled,
            Failure::Source(_) => Reason::Source,
        };
        self.error(method, path, reason, failure.to_string())
    }
}

/// What an answer has.
pub(super) struct Data {
    pub(super) data: Value,
    /// How many there are, where only some were asked for.
    pub(super) total: Option<u64>,
    date: Option<SystemTime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<Client, UrlError> {
        let token = "a@pve!ci=12345678-90ab-cdef-1234-567890abcdef".parse().unwrap();
        Client::new(url, &Trust::Public, token)
    }

    #[test]
    fn addresses_are_read() {
        let cases = [
            ("https://pve1.campus.example", "pve1.campus.example:8006"),
            ("https://pve1.campus.example:443/", "pve1.campus.example:443"),
            ("https://10.0.0.1:8006", "10.0.0.1:8006"),
            ("https://[fe80::1]", "[fe80::1]:8006"),
        ];
        for (url, server) in cases {
            assert_eq!(client(url).unwrap().server(), server);
        }
        for url in [
            "",
            "pve1",
            "http://pve1:8006",
            "https://pve1/api2/json",
            "https://pve1/?a",
            "https://root:x@pve1",
            "https://",
            "https://a_b c/",
        ] {
            assert!(client(url).is_err(), "{url}");
        }
    }

    #[test]
    fn nobody_sees_the_secret() {
        let client = client("https://pve1").unwrap();
        assert!(!format!("{client:?}").contains("567890abcdef"));
    }
}
