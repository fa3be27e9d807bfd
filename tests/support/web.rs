//! A web node to balance over, and a client: HTTP/1.1, no more of it than a test needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::lab::Lab;

/// A web node. Requests for `/hold` stay unanswered until they are released; every other one is
/// answered with the node's name.
pub struct WebNode {
    name: &'static str,
    /// Status of the answer to a health check.
    health: AtomicU16,
    /// Requests for `/hold` that have arrived.
    held: AtomicUsize,
    released: AtomicBool,
}

impl WebNode {
    /// Starts a web node at an address, with a port, of the lab's bridge.
    pub fn start(lab: &Lab, name: &'static str, address: &'static str) -> Arc<Self> {
        let node = Arc::new(Self {
            name,
            health: AtomicU16::new(200),
            held: AtomicUsize::new(0),
            released: AtomicBool::new(false),
        });
        let serving = Arc::clone(&node);
        let (ready, started) = mpsc::channel();
        lab.on_network(move || {
            let listener = TcpListener::bind(address).unwrap();
            ready.send(()).unwrap();
            for connection in listener.incoming() {
                let node = Arc::clone(&serving);
                // A connection that breaks is the other side's loss, and it says so.
                thread::spawn(move || connection.and_then(|connection| node.serve(connection)));
            }
        });
        started.recv().expect("the web node listens");
        node
    }

    /// Makes health checks answer with this status from now on.
    pub fn answer_health_checks_with(&self, status: u16) {
        self.health.store(status, Ordering::SeqCst);
    }

    /// How many requests for `/hold` have arrived.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Answers all requests for `/hold`.
    pub fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }

    fn serve(&self, connection: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(connection.try_clone()?);
        let mut writer = connection;
        let mut request = String::new();
        reader.read_line(&mut request)?;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header == "\r\n" {
                break;
            }
        }
        let status = match request.split(' ').nth(1).unwrap_or_default() {
            "/healthz/ready" => self.health.load(Ordering::SeqCst),
            "/hold" => {
                self.held.fetch_add(1, Ordering::SeqCst);
                while !self.released.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(10));
                }
                200
            }
            _ => 200,
        };
        write!(
            writer,
            "HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
            self.name.len(),
            self.name
        )
    }
}

/// Asks for a path at an address with a port. Returns the status and the body, or what went wrong.
///
/// The thread that calls this must be on the lab's network.
pub fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    get_from_host(address, "test", path)
}

/// Like [`get`], from the host of that name at the address.
pub fn get_from_host(address: &str, host: &str, path: &str) -> std::io::Result<(u16, String)> {
    let address = address.parse().map_err(std::io::Error::other)?;
    // While an address moves from one guest to another, packets go nowhere.
    let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {answer:?}")))
}
