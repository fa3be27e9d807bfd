//! Registries for tests: one in memory that keeps to the OCI distribution specification 1.1, Debian's
//! `docker-registry`, and a proxy that lies on demand.

mod memory;

pub use memory::{Abilities, in_memory, in_memory_without_tags_of_digests};

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(it, _)| !it.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// What goes wrong with one request.
pub enum Fault {
    /// The connection ends after so many bytes of the request's body.
    CutRequest(usize),
    /// The connection ends after so many bytes of the answer's body.
    CutAnswer(usize),
    /// The answer is changed.
    Change(Box<dyn Fn(Reply) -> Reply + Send>),
    /// This is the answer, and nothing is done.
    Instead(Reply),
    /// The answer is lost after everything was done.
    Lose,
}

type Handler = Box<dyn Fn(&Asked) -> Option<Reply> + Send + Sync>;

struct State {
    handler: Handler,
    faults: Mutex<VecDeque<(String, String, Fault)>>,
    seen: Mutex<Vec<Asked>>,
}

/// An HTTP server on 127.0.0.1.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Server {
    /// One that answers with what `handler` says; with nothing at all if it says nothing.
    pub fn start(handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { handler, faults: Mutex::default(), seen: Mutex::default() };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// One that hands everything on to the registry at `address`.
    pub fn before(address: &str) -> Self {
        let address = address.to_owned();
        Self::start(Box::new(move |asked| forward(&address, asked).ok()))
    }

    /// Host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// What it answers to `asked`, without faults.
    pub fn hand_on(&self, asked: &Asked) -> Option<Reply> {
        (self.state.handler)(asked)
    }

    /// What goes wrong with the next request of `method` whose path has `part`.
    pub fn fault(&self, method: &str, part: &str, fault: Fault) {
        lock(&self.state.faults).push_back((method.to_owned(), part.to_owned(), fault));
    }

    /// Whether there are faults that did not happen.
    pub fn has_faults(&self) -> bool {
        !lock(&self.state.faults).is_empty()
    }

    /// The requests that came since this was called, with as much of their bodies as came.
    pub fn take_seen(&self) -> Vec<Asked> {
        std::mem::take(&mut *lock(&self.state.seen))
    }
}

fn read_head(
    reader: &mut BufReader<TcpStream>,
) -> io::Result<Option<(String, BTreeMap<String, String>)>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some((first.trim_end().to_owned(), headers)))
}

fn serve(stream: TcpStream, state: &State) -> io::Result<()> {
    // Head and body go one after the other, and the second would wait for an acknowledgement of the first.
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some((first, headers)) = read_head(&mut reader)? {
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let fault = {
            let mut faults = lock(&state.faults);
            let fits = |it: &(String, String, Fault)| it.0 == method && path.contains(&it.1);
            let index = faults.iter().position(fits);
            index.and_then(|index| faults.remove(index)).map(|(_, _, fault)| fault)
        };
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let length = match fault {
            Some(Fault::CutRequest(bytes)) => bytes,
            _ => length,
        };
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let asked = Asked { method: method.to_owned(), path: path.to_owned(), headers, body };
        lock(&state.seen).push(asked.clone());
        let is_last = asked.header("connection") == Some("close");
        if let Some(Fault::Instead(reply)) = fault {
            send(&mut stream, &reply, method, usize::MAX)?;
            continue;
        }
        let reply = (state.handler)(&asked);
        let Some(reply) = reply else { return Ok(()) };
        match fault {
            None => send(&mut stream, &reply, method, usize::MAX)?,
            Some(Fault::Change(change)) => send(&mut stream, &change(reply), method, usize::MAX)?,
            Some(Fault::CutAnswer(bytes)) => return send(&mut stream, &reply, method, bytes),
            Some(Fault::CutRequest(_) | Fault::Lose | Fault::Instead(_)) => return Ok(()),
        }
        if is_last {
            return Ok(());
        }
    }
    Ok(())
}

fn send(stream: &mut TcpStream, reply: &Reply, method: &str, most: usize) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Whatever\r\n", reply.status);
    for (name, value) in reply.headers.iter().filter(|(_, value)| !value.is_empty()) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let named = |wanted: &str| reply.headers.iter().any(|(it, _)| it.eq_ignore_ascii_case(wanted));
    if reply.status != 204 && !named("content-length") {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if method != "HEAD" {
        stream.write_all(&reply.body[..reply.body.len().min(most)])?;
    }
    stream.flush()
}

/// Makes the request of `asked` at `address`. Less than the whole body is sent as that, and then nothing.
fn forward(address: &str, asked: &Asked) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut head = format!("{} {} HTTP/1.1\r\n", asked.method, asked.path);
    for (name, value) in asked.headers.iter().filter(|(name, _)| *name != "connection") {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(&asked.body)?;
    let expected = asked.header("content-length").map_or(0, |it| it.parse().unwrap());
    if asked.body.len() < expected {
        // The registry has to see it before the client comes back.
        stream.shutdown(std::net::Shutdown::Write)?;
        let _ = io::copy(&mut stream, &mut io::sink());
        std::thread::sleep(Duration::from_millis(100));
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let mut reader = BufReader::new(stream);
    let (first, headers) = read_head(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = first.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    if headers.get("transfer-encoding").is_some_and(|it| it == "chunked") {
        body = unchunked(&body);
    }
    let dropped = ["connection", "transfer-encoding"];
    let headers =
        headers.into_iter().filter(|(name, _)| !dropped.contains(&name.as_str())).collect();
    Ok(Reply { status, headers, body })
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(end) = rest.windows(2).position(|it| it == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            break;
        }
        bytes.extend(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 4 + length..];
    }
    bytes
}

/// Debian's registry, with its files in a directory. Ends when dropped.
pub struct DockerRegistry {
    child: Child,
    host: String,
}

/// A password for tests, and bcrypt's hash of it.
pub const USER: &str = "tester";
pub const PASSWORD: &str = "not a secret";
const HTPASSWD: &str = "tester:$2b$04$8g1pO/qS/2ByDayI6zH/ae7rFHPgJG.AsvEt9JBEhie6Bmw5LOFAm\n";

impl DockerRegistry {
    /// Starts one in `directory`, which has to know [`USER`] and [`PASSWORD`] if it is `closed`. None, and a message,
    /// if the program is not there.
    pub fn start(directory: &Path, closed: bool) -> Option<Self> {
        Self::start_with(directory, closed, "")
    }

    /// The same with TLS, by the certificate and key in `directory`: `registry.crt`, `registry.key`.
    pub fn start_tls(directory: &Path) -> Option<Self> {
        let file = |name: &str| directory.join(name).display().to_string();
        let (certificate, key) = (file("registry.crt"), file("registry.key"));
        let tls = format!("  tls:\n    certificate: {certificate}\n    key: {key}\n");
        Self::start_with(directory, false, &tls)
    }

    fn start_with(directory: &Path, closed: bool, tls: &str) -> Option<Self> {
        if !Path::new("/usr/bin/docker-registry").exists() {
            eprintln!(
                "skipped: no /usr/bin/docker-registry; Debian's package `docker-registry` has it"
            );
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let passwords = directory.join("htpasswd");
        fs::write(&passwords, HTPASSWD).unwrap();
        let auth = if closed {
            format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display())
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  delete:\n    \
             enabled: true\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n  secret: test\n{tls}{auth}",
            directory.join("data").display()
        );
        let file = directory.join("config.yml");
        fs::write(&file, config).unwrap();
        let child = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, host };
        let start = Instant::now();
        while TcpStream::connect(&registry.host).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "docker-registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file of podman or Docker with this login for `host`.
pub fn auth_file(host: &str, user: &str, password: &str) -> String {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    serde_json::json!({ "auths": { host: { "auth": auth } } }).to_string()
}
