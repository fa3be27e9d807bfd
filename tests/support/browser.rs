//! A browser of one user: HTTP with cookies, no more of it than a test needs.

use std::collections::BTreeMap;
use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::lab::Lab;

/// No server of ours is silent for longer and comes back.
pub const SILENCE: Duration = Duration::from_secs(60);

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Header lines.
    pub headers: String,
    pub body: String,
}

/// Remembers the cookies that it was given.
#[derive(Clone, Debug)]
pub struct Browser {
    address: String,
    host: String,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// A browser that asks a server at an address with a port for the site of a name.
    pub fn new(address: &str, host: &str) -> Self {
        Self { address: address.to_owned(), host: host.to_owned(), cookies: BTreeMap::new() }
    }

    /// The same browser, asking another server for the same site.
    pub fn at(&self, address: &str) -> Self {
        Self { address: address.to_owned(), ..self.clone() }
    }

    /// Asks for a path from the lab's network.
    pub fn get(&mut self, lab: &Lab, path: &str) -> Result<Answer> {
        self.ask(lab, format!("GET {path} HTTP/1.0\r\n"), String::new())
    }

    /// Sends a form, as `application/x-www-form-urlencoded`.
    pub fn post(&mut self, lab: &Lab, path: &str, form: &str) -> Result<Answer> {
        self.ask(lab, form_head(path, form), form.to_owned())
    }

    /// Uploads a file in a field of a form, whose other fields have these names and values.
    pub fn upload(
        &mut self,
        lab: &Lab,
        path: &str,
        fields: &[(&str, &str)],
        file: (&str, &str),
    ) -> Result<Answer> {
        let (head, body) = upload(path, fields, file);
        self.ask(lab, head, body)
    }

    /// HTTP/1.0, so that the answer comes in one piece.
    fn ask(&mut self, lab: &Lab, head: String, body: String) -> Result<Answer> {
        let request = self.request(head, body);
        let address = self.address.clone();
        let answer = lab.on_network(move || exchange(&address, &request)).join();
        self.remember(answer.expect("the request does not panic")?)
    }

    /// Asks for a path, from a thread that is on the network already.
    pub fn get_from_here(&mut self, path: &str) -> Result<Answer> {
        let request = self.request(format!("GET {path} HTTP/1.0\r\n"), String::new());
        self.remember(exchange(&self.address, &request)?)
    }

    /// Sends a form, from a thread that is on the network already.
    pub fn post_from_here(&mut self, path: &str, form: &str) -> Result<Answer> {
        let request = self.request(form_head(path, form), form.to_owned());
        self.remember(exchange(&self.address, &request)?)
    }

    /// Uploads a file in the field `file`, from a thread that is on the network already.
    pub fn upload_from_here(&mut self, path: &str, content: &str) -> Result<Answer> {
        let (head, body) = upload(path, &[], ("file", content));
        let request = self.request(head, body);
        self.remember(exchange(&self.address, &request)?)
    }

    fn request(&self, mut request: String, body: String) -> String {
        request += &format!("Host: {}\r\n", self.host);
        if !self.cookies.is_empty() {
            let cookies: Vec<_> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request += &format!("Cookie: {}\r\n", cookies.join("; "));
        }
        request + "\r\n" + &body
    }

    fn remember(&mut self, answer: Answer) -> Result<Answer> {
        for cookie in all(&answer.headers, "Set-Cookie") {
            let pair = cookie.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(answer)
    }
}

fn form_head(path: &str, form: &str) -> String {
    format!(
        "POST {path} HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n",
        form.len()
    )
}

/// Head and body of a form with a file, whose other fields have these names and values.
fn upload(path: &str, fields: &[(&str, &str)], file: (&str, &str)) -> (String, String) {
    let mut body = String::new();
    for (name, value) in fields {
        body += &format!(
            "--limit\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
    }
    let (name, content) = file;
    body += &format!(
        "--limit\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.txt\"\r\n\
         Content-Type: text/plain\r\n\r\n{content}\r\n--limit--\r\n"
    );
    let head = format!(
        "POST {path} HTTP/1.0\r\nContent-Type: multipart/form-data; boundary=limit\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    (head, body)
}

/// One request and its answer, on the network of this thread.
fn exchange(address: &str, request: &str) -> Result<Answer> {
    let address = address.parse().map_err(Error::other)?;
    let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    connection.set_read_timeout(Some(SILENCE))?;
    connection.write_all(request.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Answer::read(&answer).ok_or_else(|| Error::other(format!("no HTTP answer: {answer:?}")))
}

impl Answer {
    fn read(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let (first, headers) = head.split_once("\r\n").unwrap_or((head, ""));
        Some(Self {
            status: first.split(' ').nth(1)?.parse().ok()?,
            headers: headers.to_owned(),
            body: body.to_owned(),
        })
    }

    /// The last header of a name.
    pub fn header<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        all(&self.headers, name).last()
    }
}

/// All headers of a name.
fn all<'a>(headers: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.lines().filter_map(move |line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
