//! A connection to a node.

use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::{Answer, Endpoint, Failure, answer};

/// Sends a piece of a long content.
pub(in crate::proxmox) type Send<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// A connection over which nothing is underway.
#[derive(Debug)]
pub(in crate::proxmox) struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// How long a read or a write may wait for the other side.
    patience: Duration,
    /// When the last answer came.
    idle_since: Instant,
}

impl Connection {
    /// Connects to `endpoint`, whose certificate is checked, within `connect`. `patience` is how long a read or
    /// a write may wait for the other side.
    pub(in crate::proxmox) fn open(
        endpoint: &Endpoint,
        connect: Duration,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let socket = socket(endpoint, connect).map_err(Failure::before)?;
        let session = ClientConnection::new(endpoint.tls.clone(), endpoint.name.clone())
            .map_err(Failure::Tls)?;
        let mut stream = StreamOwned::new(session, socket);
        let handshake = |stream: &mut StreamOwned<ClientConnection, TcpStream>| {
            stream.sock.set_nodelay(true)?;
            stream.sock.set_read_timeout(Some(connect))?;
            stream.sock.set_write_timeout(Some(connect))?;
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
            stream.sock.set_read_timeout(Some(patience))?;
            stream.sock.set_write_timeout(Some(patience))
        };
        handshake(&mut stream).map_err(Failure::before)?;
        Ok(Self { stream, patience, idle_since: Instant::now() })
    }

    /// Whether it may have been idle for too long.
    pub(in crate::proxmox) fn is_older_than(&self, limit: Duration) -> bool {
        self.idle_since.elapsed() > limit
    }

    /// Sends `request`, all of it, and reads the answer. Gives the connection back when it can be used
    /// again.
    pub(in crate::proxmox) fn exchange(
        mut self,
        request: &[u8],
    ) -> Result<(Answer, Option<Self>), Failure> {
        self.stream.write_all(request).map_err(Failure::after)?;
        self.stream.flush().map_err(Failure::after)?;
        self.answer()
    }

    /// Reads the answer.
    fn answer(mut self) -> Result<(Answer, Option<Self>), Failure> {
        let answer = answer::read(&mut self.stream)?;
        let again = answer.reusable.then(|| Self { idle_since: Instant::now(), ..self });
        Ok((answer, again))
    }

    /// Sends `head`, then what `content` yields, then reads the answer. Stops sending when the server
    /// answers before the end, as it does when it refuses.
    ///
    /// Each piece of `content` goes out in one write, and as a single TLS record when it is no longer than
    /// 16 KiB, which the other side then has all at once. `stalled` is called after each `stall` in which the other
    /// side takes nothing; what it fails with ends the sending, like a failure of `content`.
    pub(in crate::proxmox) fn stream(
        mut self,
        head: &[u8],
        content: &mut dyn FnMut(&mut Send<'_>) -> io::Result<()>,
        stall: Duration,
        stalled: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Answer, Failure> {
        self.stream.write_all(head).map_err(Failure::after)?;
        self.stream.flush().map_err(Failure::after)?;
        self.stream.sock.set_write_timeout(Some(stall)).map_err(Failure::after)?;
        let mut stopped = None;
        let mut broken = None;
        let mut early = false;
        let mut send = |piece: &[u8]| {
            let mut stalled = || stalled().inspect_err(|_| stopped = Some(()));
            match self.send(piece, &mut stalled) {
                Ok(true) => return Ok(()),
                Ok(false) => early = true,
                Err(error) if stopped.is_some() => return Err(error),
                Err(error) => broken = Some(error),
            }
            // Only ends the loop of whoever reads the content; what it means is told below.
            Err(io::Error::other("stopped"))
        };
        let sent = content(&mut send);
        match (sent, broken, early) {
            (Ok(()), _, _) | (Err(_), None, true) => Ok(self.answer()?.0),
            // It may have answered before it closed the connection.
            (Err(_), Some(error), _) => match self.answer() {
                Ok((answer, _)) if answer.status >= 400 => Ok(answer),
                _ => Err(Failure::after(error)),
            },
            (Err(error), None, false) => Err(Failure::Source(error)),
        }
    }

    /// Sends a piece. False when the server has begun to answer instead. Calls `stalled` now and then while the
    /// other side takes nothing.
    fn send(
        &mut self,
        piece: &[u8],
        stalled: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<bool> {
        if self.has_answer()? {
            return Ok(false);
        }
        // Not by the `Write` of the stream: while the socket takes nothing, that waits for something to read.
        let StreamOwned { conn, sock } = &mut self.stream;
        let mut rest = piece;
        let mut moved = Instant::now();
        loop {
            if !conn.wants_write() {
                if rest.is_empty() {
                    return Ok(true);
                }
                let taken = conn.writer().write(rest)?;
                rest = &rest[taken..];
                continue;
            }
            match conn.write_tls(sock) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => moved = Instant::now(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && moved.elapsed() < self.patience => stalled()?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether something of an answer is there, without waiting for it.
    fn has_answer(&mut self) -> io::Result<bool> {
        self.stream.sock.set_nonblocking(true)?;
        let looked = self.look();
        self.stream.sock.set_nonblocking(false)?;
        looked
    }

    fn look(&mut self) -> io::Result<bool> {
        loop {
            match self.stream.conn.read_tls(&mut self.stream.sock) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            // Not every record is part of an answer: after the handshake come session tickets.
            let state = self.stream.conn.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
                return Ok(true);
            }
        }
    }
}

/// Connects to the first of the host's addresses that lets it.
fn socket(endpoint: &Endpoint, limit: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in (endpoint.host.as_str(), endpoint.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether a socket's limit of time has passed.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
