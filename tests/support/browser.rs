//! A browser of one user: HTTP with a cookie, no more of it than a test needs.

use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::lab::Lab;

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Header lines.
    pub headers: String,
    pub body: String,
}

/// Remembers the one cookie that it was given last.
#[derive(Clone, Debug)]
pub struct Browser {
    address: String,
    host: String,
    cookie: Option<String>,
}

impl Browser {
    /// A browser that asks a server at an address with a port for the site of a name.
    pub fn new(address: &str, host: &str) -> Self {
        Self { address: address.to_owned(), host: host.to_owned(), cookie: None }
    }

    /// Asks for a path from the lab's network.
    pub fn get(&mut self, lab: &Lab, path: &str) -> Result<Answer> {
        self.ask(lab, format!("GET {path} HTTP/1.0\r\n"), String::new())
    }

    /// Sends a form, as `application/x-www-form-urlencoded`.
    pub fn post(&mut self, lab: &Lab, path: &str, form: &str) -> Result<Answer> {
        let head = format!(
            "POST {path} HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n",
            form.len()
        );
        self.ask(lab, head, form.to_owned())
    }

    /// Uploads a file in the field `file`.
    pub fn upload(&mut self, lab: &Lab, path: &str, content: &str) -> Result<Answer> {
        let body = format!(
            "--limit\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n\
             {content}\r\n--limit--\r\n"
        );
        let head = format!(
            "POST {path} HTTP/1.0\r\nContent-Type: multipart/form-data; boundary=limit\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        self.ask(lab, head, body)
    }

    /// HTTP/1.0, so that the answer comes in one piece.
    fn ask(&mut self, lab: &Lab, mut request: String, body: String) -> Result<Answer> {
        request += &format!("Host: {}\r\n", self.host);
        if let Some(cookie) = &self.cookie {
            request += &format!("Cookie: {cookie}\r\n");
        }
        request += &format!("\r\n{body}");
        let address = self.address.clone();
        let answer = lab
            .on_network(move || {
                let address = address.parse().map_err(Error::other)?;
                let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
                connection.write_all(request.as_bytes())?;
                let mut answer = String::new();
                connection.read_to_string(&mut answer)?;
                Ok::<_, Error>(answer)
            })
            .join()
            .expect("the request does not panic")?;
        let answer = Answer::read(&answer)
            .ok_or_else(|| Error::other(format!("no HTTP answer: {answer:?}")))?;
        if let Some(cookie) = answer.header("Set-Cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        Ok(answer)
    }
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
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().rev().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}
