//! An HTTP server on 127.0.0.1 that misbehaves on demand.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use imgbuild::digest::Digest;

/// What the server does instead of answering one request properly.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this status and no content.
    Status(u16),
    /// Answers 503 with `Retry-After: SECONDS`.
    Busy(u64),
    /// Sends so many bytes of the body and closes the connection.
    Truncate(usize),
    /// Sends so many bytes of the body, then nothing, until the client gives up.
    Stall(usize),
    /// Sends one byte every so often.
    Dribble(Duration),
    /// Sends the right number of wrong bytes.
    Corrupt,
    /// Sends the whole file whatever part was asked for.
    IgnoreRange,
    /// Sends another part than was asked for.
    WrongRange,
    /// Sends the body without length, followed by so many more bytes.
    Overlong(usize),
    /// Sends the body in a chunk without its length before, and closes the connection after so many bytes of it.
    CutChunk(usize),
    /// Redirects to this URL.
    Redirect(String),
    /// Closes the connection without a word.
    Hangup,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The path, as sent.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `If-Range` header.
    pub if_range: Option<String>,
    /// The `If-None-Match` header.
    pub if_none_match: Option<String>,
    /// The `Accept-Encoding` header.
    pub accept_encoding: Option<String>,
    /// The `Accept` header.
    pub accept: Option<String>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    directory: Option<PathBuf>,
    faults: HashMap<String, VecDeque<Fault>>,
    seen: Vec<Seen>,
    connections: usize,
    /// What paths begin with that need a token, the token, and the challenge to who has none.
    protected: Option<(String, String, String)>,
}

/// The server. Its threads end with the test process.
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Starts a server without files on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the address of a bound socket");
        let state = Arc::new(Mutex::new(State::default()));
        std::thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for stream in listener.incoming().flatten() {
                    lock(&state).connections += 1;
                    let state = Arc::clone(&state);
                    // A client that goes away in the middle is part of the tests.
                    std::thread::spawn(move || serve(stream, &state));
                }
            }
        });
        Self { address, state }
    }

    /// A URL of this server for `path`, which begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves `content` at `path`, and returns its URL.
    pub fn file(&self, path: &str, content: impl Into<Vec<u8>>) -> String {
        lock(&self.state).files.insert(path.to_owned(), content.into());
        self.url(path)
    }

    /// What is served at `path`.
    pub fn content(&self, path: &str) -> Vec<u8> {
        lock(&self.state).files[path].clone()
    }

    /// Serves `path` no longer.
    pub fn remove(&self, path: &str) {
        lock(&self.state).files.remove(path);
    }

    /// Answers requests for paths that begin with `start` with 401 and this challenge, unless they have the
    /// bearer token.
    pub fn protect(&self, start: &str, token: &str, challenge: &str) {
        let protected = (start.to_owned(), format!("Bearer {token}"), challenge.to_owned());
        lock(&self.state).protected = Some(protected);
    }

    /// Serves the files of `directory` at every path that no [`Server::file`] has.
    pub fn directory(&self, directory: &Path) {
        lock(&self.state).directory = Some(directory.to_owned());
    }

    /// Answers the next requests for `path` with `faults`, one after the other.
    pub fn faults(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.state).faults.entry(path.to_owned()).or_default().extend(faults);
    }

    /// All requests so far, in the order they came.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state).seen.clone()
    }

    /// How many requests for `path` came.
    pub fn count(&self, path: &str) -> usize {
        lock(&self.state).seen.iter().filter(|seen| seen.path == path).count()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        lock(&self.state).connections
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Answers the requests of one connection until either side closes it.
fn serve(stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    let mut output = stream;
    while let Some(seen) = read_request(&mut input)? {
        let (content, fault) = {
            let mut state = lock(state);
            state.seen.push(seen.clone());
            if let Some((start, token, challenge)) = &state.protected
                && seen.path.starts_with(start)
                && seen.authorization.as_ref() != Some(token)
            {
                empty(&mut output, "401", &format!("WWW-Authenticate: {challenge}\r\n"))?;
                continue;
            }
            let fault = state.faults.get_mut(&seen.path).and_then(VecDeque::pop_front);
            (find(&state, &seen.path), fault)
        };
        if !answer(&seen, content, fault, &mut output)? {
            break;
        }
    }
    output.shutdown(std::net::Shutdown::Both)
}

/// The content of `path`; from the directory only for plain names.
fn find(state: &State, path: &str) -> Option<Vec<u8>> {
    if let Some(content) = state.files.get(path) {
        return Some(content.clone());
    }
    let relative = path.strip_prefix('/')?.replace("%2B", "+").replace("%3a", ":");
    let plain = !relative.split('/').any(|part| part.is_empty() || part.starts_with('.'));
    let directory = state.directory.as_ref().filter(|_| plain)?;
    std::fs::read(directory.join(relative)).ok()
}

fn read_request(input: &mut impl BufRead) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut seen = Seen {
        path,
        range: None,
        if_range: None,
        if_none_match: None,
        accept_encoding: None,
        accept: None,
        authorization: None,
    };
    loop {
        line.clear();
        input.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Ok(Some(seen)) };
        let value = Some(value.to_owned());
        match name.to_ascii_lowercase().as_str() {
            "range" => seen.range = value,
            "if-range" => seen.if_range = value,
            "if-none-match" => seen.if_none_match = value,
            "accept-encoding" => seen.accept_encoding = value,
            "accept" => seen.accept = value,
            "authorization" => seen.authorization = value,
            _ => {}
        }
    }
}

/// Answers one request; says whether the connection may go on.
fn answer(
    seen: &Seen,
    content: Option<Vec<u8>>,
    fault: Option<Fault>,
    output: &mut TcpStream,
) -> io::Result<bool> {
    match &fault {
        Some(Fault::Hangup) => return Ok(false),
        Some(Fault::Status(code)) => return empty(output, &code.to_string(), ""),
        Some(Fault::Busy(seconds)) => {
            return empty(output, "503", &format!("Retry-After: {seconds}\r\n"));
        }
        Some(Fault::Redirect(url)) => return empty(output, "302", &format!("Location: {url}\r\n")),
        _ => {}
    }
    let Some(mut content) = content else { return empty(output, "404", "") };
    let tag = format!("\"{}\"", Digest::of(&content).short());
    if seen.if_none_match.as_ref() == Some(&tag) {
        return empty(output, "304", &format!("ETag: {tag}\r\n"));
    }
    if let Some(Fault::Corrupt) = fault {
        content.iter_mut().for_each(|byte| *byte ^= 0xff);
    }
    if let Some(Fault::Overlong(more)) = fault {
        content.resize(content.len() + more, b'+');
        write!(output, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        output.write_all(&content)?;
        return Ok(false);
    }
    if let Some(Fault::CutChunk(length)) = fault {
        write!(output, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: {tag}\r\n\r\n")?;
        write!(output, "{:x}\r\n", content.len())?;
        output.write_all(&content[..length])?;
        return Ok(false);
    }
    let unchanged = seen.if_range.as_ref().is_none_or(|validator| *validator == tag);
    let offset = match &fault {
        Some(Fault::IgnoreRange) => None,
        _ => seen.range.as_deref().filter(|_| unchanged).and_then(first_byte),
    };
    let total = content.len();
    let (status, range, body) = match offset {
        Some(offset) if offset >= total => {
            return empty(output, "416", &format!("Content-Range: bytes */{total}\r\n"));
        }
        Some(offset) => {
            let first = if let Some(Fault::WrongRange) = fault { offset / 2 } else { offset };
            let range = format!("Content-Range: bytes {first}-{}/{total}\r\n", total - 1);
            ("206", range, &content[first..])
        }
        None => ("200", String::new(), &content[..]),
    };
    let length = body.len();
    write!(
        output,
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nETag: {tag}\r\n{range}\r\n"
    )?;
    match fault {
        Some(Fault::Truncate(count)) => {
            output.write_all(&body[..count.min(length)])?;
            Ok(false)
        }
        Some(Fault::Stall(count)) => {
            output.write_all(&body[..count.min(length)])?;
            // Returns when the client has closed the connection.
            let _ = output.read(&mut [0]);
            Ok(false)
        }
        Some(Fault::Dribble(pause)) => {
            for byte in body {
                output.write_all(&[*byte])?;
                std::thread::sleep(pause);
            }
            Ok(true)
        }
        _ => output.write_all(body).map(|()| true),
    }
}

/// The first byte of `bytes=FIRST-`.
fn first_byte(range: &str) -> Option<usize> {
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

fn empty(output: &mut TcpStream, status: &str, headers: &str) -> io::Result<bool> {
    write!(output, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{headers}\r\n")?;
    Ok(true)
}
