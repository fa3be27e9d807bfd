//! HTTP as pveproxy speaks it (`PVE/APIServer/AnyEvent.pm` of pve-http-server): which requests it takes, and
//! what its answers look like.

use std::io::{self, Read, Write};
use std::time::SystemTime;

use serde_json::{Value, json};

/// The longest content of a request that is no upload, in bytes.
const CONTENT_LIMIT: u64 = 512 * 1024;

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub method: String,
    /// Below `/api2/json`, decoded, with its parts.
    pub segments: Vec<String>,
    /// What follows `?`.
    pub query: String,
    /// In the spelling of the request.
    pub headers: Vec<(String, String)>,
    /// False for something outside `/api2/json`.
    pub in_api: bool,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> String {
        format!("/{}", self.segments.join("/"))
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub message: String,
    pub data: Value,
    pub errors: Vec<(String, String)>,
    pub total: Option<u64>,
}

impl Reply {
    pub fn data(data: Value) -> Self {
        Self { status: 200, message: String::new(), data, errors: Vec::new(), total: None }
    }

    pub fn error(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), ..Self::data(Value::Null) }
    }

    pub fn parameters(errors: Vec<(String, String)>) -> Self {
        Self { errors, ..Self::error(400, "Parameter verification failed.") }
    }
}

/// Reads a head; `None` when the client has gone.
pub fn read_head(input: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<Head>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 4);
            return Ok(parse_head(&text));
        }
        let mut piece = [0; 4096];
        match input.read(&mut piece) {
            Ok(0) | Err(_) => return Ok(None),
            Ok(count) => buffer.extend_from_slice(&piece[..count]),
        }
    }
}

fn parse_head(text: &str) -> Option<Head> {
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let method = first.next()?.to_owned();
    let target = first.next()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let in_api = path.starts_with("/api2/json/");
    let path = path.trim_start_matches("/api2/json");
    let mut segments: Vec<String> =
        path.split('/').skip(1).map(|part| decode(part, false)).collect();
    // The last part of this path may have slashes of its own.
    if let Some(at) = segments.iter().position(|part| part == "content")
        && at + 1 < segments.len()
    {
        let rest = segments.split_off(at + 1).join("/");
        segments.push(rest);
    }
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Some(Head { method, segments, query: query.to_owned(), headers, in_api })
}

/// Reads the content of a request that is no upload.
pub fn read_content(
    head: &Head,
    input: &mut impl Read,
    buffer: &mut Vec<u8>,
) -> io::Result<Result<String, Reply>> {
    if head.header("Transfer-Encoding").is_some() {
        return Ok(Err(Reply::error(501, "chunked transfer encoding not supported")));
    }
    let Some(length) = head.header("Content-Length") else { return Ok(Ok(String::new())) };
    let length: u64 = length.parse().unwrap_or(u64::MAX);
    if length > 0 && !matches!(head.method.as_str(), "PUT" | "POST") {
        let message = format!("Unexpected content for method '{}'", head.method);
        return Ok(Err(Reply::error(501, message)));
    }
    if length > CONTENT_LIMIT {
        return Ok(Err(Reply::error(501, "for data too large")));
    }
    while (buffer.len() as u64) < length {
        let mut piece = [0; 4096];
        let count = input.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.extend_from_slice(&piece[..count]);
    }
    let content: Vec<u8> = buffer.drain(..usize::try_from(length).unwrap_or(0)).collect();
    Ok(Ok(String::from_utf8_lossy(&content).into_owned()))
}

/// Takes a form or a query apart.
pub fn parameters(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        })
        .collect()
}

/// Undoes percent encoding; in forms `+` is a space.
pub fn decode(text: &str, form: bool) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap_or("");
                bytes.push(u8::from_str_radix(digits, 16).unwrap_or(b'?'));
                rest = tail;
            }
            (b'+', _) if form => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes an answer; says whether the connection goes on. Without `in_body` the message is only in the
/// reason phrase, as before libpve-http-server-perl 5.2.0.
pub fn write(output: &mut impl Write, reply: &Reply, in_body: bool) -> io::Result<bool> {
    let failed = reply.status >= 400;
    let mut body = json!({ "data": reply.data });
    if failed && in_body {
        body["message"] = json!(format!("{}\n", reply.message));
    }
    if !reply.errors.is_empty() {
        body["errors"] =
            reply.errors.iter().map(|(name, why)| (name.clone(), json!(why))).collect();
    }
    if let Some(total) = reply.total {
        body["total"] = json!(total);
    }
    let phrase = match reply.message.lines().next() {
        Some(line) if !line.is_empty() => line,
        _ => "OK",
    };
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut text = format!(
        "HTTP/1.1 {} {phrase}\r\nCache-Control: max-age=0\r\nConnection: {}\r\nDate: {date}\r\n\
         Pragma: no-cache\r\nServer: pve-api-daemon/3.0\r\n",
        reply.status,
        if failed { "close" } else { "Keep-Alive" },
    );
    // A refused token gets no content, only the phrase.
    if reply.status == 401 {
        text += "\r\n";
    } else {
        let body = body.to_string();
        text += &format!(
            "Content-Length: {}\r\nContent-Type: application/json;charset=UTF-8\r\n\r\n{body}",
            body.len()
        );
    }
    output.write_all(text.as_bytes())?;
    output.flush()?;
    Ok(!failed)
}
