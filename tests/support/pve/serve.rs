//! Connections, and the way of a request: token, description, fault, effect, answer.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::fault::Fault;
use super::wire::{self, Head, Reply};
use super::{SECRET, Seen, Shared, TOKEN, api, lock, schema, upload};

/// How long a connection may be idle (`PVE/APIServer/AnyEvent.pm`).
const IDLE: Duration = Duration::from_secs(5);

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// Serves a connection until it ends.
pub fn connection(socket: TcpStream, config: Arc<ServerConfig>, shared: &Shared) {
    let _ = socket.set_read_timeout(Some(IDLE));
    let _ = socket.set_nodelay(true);
    let Ok(session) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(session, socket);
    let mut buffer = Vec::new();
    while let Ok(true) = request(&mut stream, &mut buffer, shared) {}
    stream.conn.send_close_notify();
    let _ = stream.flush();
    // What the client still sends is read, so that closing does not take the answer away from it.
    let _ = stream.sock.shutdown(std::net::Shutdown::Write);
    let _ = stream.sock.set_read_timeout(Some(Duration::from_millis(200)));
    let _ = io::copy(&mut (&stream.sock), &mut io::sink());
}

/// Serves a request; says whether the connection goes on.
fn request(stream: &mut Stream, buffer: &mut Vec<u8>, shared: &Shared) -> io::Result<bool> {
    let Some(head) = wire::read_head(stream, buffer)? else { return Ok(false) };
    // The token comes before everything else.
    if !is_authorized(&head) {
        return wire::write(stream, &Reply::error(401, "invalid token value!"), shared.in_body);
    }
    if !head.in_api {
        return wire::write(stream, &Reply::error(404, "no such file"), shared.in_body);
    }
    let is_upload = head.segments.last().is_some_and(|last| last == "upload");
    if is_upload && head.method == "POST" {
        return upload_request(stream, buffer, &head, shared);
    }
    let content = match wire::read_content(&head, stream, buffer)? {
        Ok(content) => content,
        Err(reply) => return wire::write(stream, &reply, shared.in_body),
    };
    let mut given = wire::parameters(&head.query);
    given.extend(wire::parameters(&content));
    let fault = arrive(&head, &given, shared);
    if let Some(end) = before(&fault, stream, shared)? {
        return Ok(end);
    }
    let reply = match validate(&head, &given, shared) {
        Some(reply) => reply,
        None => {
            let mut cluster = lock(&shared.cluster);
            cluster.advance();
            spoil(&fault, &mut cluster);
            let parameters = given.into_iter().collect();
            let result = api::call(&mut cluster, &head.method, &head.segments, &parameters);
            cluster.spoil = None;
            cluster.advance();
            result.unwrap_or_else(|reply| reply)
        }
    };
    after(&fault, reply, stream, shared)
}

fn is_authorized(head: &Head) -> bool {
    head.header("Authorization") == Some(&format!("PVEAPIToken={TOKEN}={SECRET}"))
}

/// Notes a request, and looks what goes wrong with it.
fn arrive(head: &Head, given: &[(String, String)], shared: &Shared) -> Option<Fault> {
    let path = head.path();
    lock(&shared.seen).push(Seen {
        method: head.method.clone(),
        path: path.clone(),
        parameters: given.to_vec(),
    });
    lock(&shared.faults).next(&head.method, &path)
}

/// What a fault does before the effect. `Some` when that is all.
fn before(fault: &Option<Fault>, stream: &mut Stream, shared: &Shared) -> io::Result<Option<bool>> {
    match fault {
        Some(fault @ Fault::Refuse(..)) => {
            let reply = fault.reply().unwrap_or_else(|| Reply::error(500, ""));
            wire::write(stream, &reply, shared.in_body).map(Some)
        }
        Some(Fault::Cut) => Ok(Some(false)),
        Some(Fault::Garbage(text)) => {
            stream.write_all(text.as_bytes())?;
            stream.flush()?;
            Ok(Some(false))
        }
        _ => Ok(None),
    }
}

/// Answers, unless a fault does it instead.
fn after(
    fault: &Option<Fault>,
    reply: Reply,
    stream: &mut Stream,
    shared: &Shared,
) -> io::Result<bool> {
    match fault {
        Some(Fault::CutAfter) => Ok(false),
        Some(fault) => wire::write(stream, &fault.reply().unwrap_or(reply), shared.in_body),
        None => wire::write(stream, &reply, shared.in_body),
    }
}

fn spoil(fault: &Option<Fault>, cluster: &mut super::Cluster) {
    match fault {
        Some(Fault::Task(spoil)) => cluster.spoil = Some(spoil.clone()),
        Some(Fault::After(change)) => change(cluster),
        _ => {}
    }
}

/// Holds a request against the description; what is wrong with it fails the test later.
fn validate(head: &Head, given: &[(String, String)], shared: &Shared) -> Option<Reply> {
    let mut parameters = std::collections::BTreeMap::new();
    let note = |text: String| {
        lock(&shared.invalid).push(format!("{} {}: {text}", head.method, head.path()))
    };
    for (name, value) in given {
        if parameters.insert(name.clone(), value.clone()).is_some() {
            note(format!("{name} is there twice"));
        }
        if name == "destroy-unreferenced-disks" {
            note("volumes of other guests may be destroyed by this".to_owned());
        }
    }
    let schema = schema::schema()?;
    let flavour = lock(&shared.cluster).flavour;
    let Some(endpoint) = schema.endpoint(flavour, &head.method, &head.segments) else {
        note("there is no such call".to_owned());
        let message = format!("Method '{} {}' not implemented", head.method, head.path());
        return Some(Reply::error(501, message));
    };
    parameters.extend(endpoint.in_path.iter().cloned());
    let errors = schema.check(flavour, &endpoint, &parameters);
    if errors.is_empty() {
        return None;
    }
    note(format!("{errors:?} of {given:?}"));
    Some(Reply::parameters(errors))
}

/// Where an upload is kept, if guests are made of it.
fn keep(shared: &Shared) -> io::Result<Option<(u64, std::fs::File)>> {
    let mut cluster = lock(&shared.cluster);
    let Some(backing) = cluster.backing.clone() else { return Ok(None) };
    let number = cluster.number();
    Ok(Some((number, std::fs::File::create(backing.file(number))?)))
}

fn upload_request(
    stream: &mut Stream,
    buffer: &mut Vec<u8>,
    head: &Head,
    shared: &Shared,
) -> io::Result<bool> {
    let fault = arrive(head, &[], shared);
    // Rights are checked before the content is read.
    let [_, node, _, storage, _] = &head.segments[..] else { return Ok(false) };
    let allowed = lock(&shared.cluster)
        .check(&format!("/storage/{storage}"), &["Datastore.AllocateTemplate"]);
    if let Err(reply) = allowed {
        return wire::write(stream, &reply, shared.in_body);
    }
    if let Some(end) = before(&fault, stream, shared)? {
        return Ok(end);
    }
    if let Some(Fault::Slow(pause)) = fault {
        std::thread::sleep(pause);
    }
    let (identity, keep) = keep(shared)?.unzip();
    let file = match upload::read(head, stream, buffer, keep)? {
        Ok(file) => upload::Uploaded { kept: identity, ..file },
        Err(message) => return wire::write(stream, &Reply::error(500, message), shared.in_body),
    };
    let fields = [
        ("content", file.content.clone()),
        ("checksum-algorithm", file.algorithm.clone()),
        ("checksum", file.checksum.clone()),
        ("filename", Some(file.filename.clone())),
    ];
    let mut given = file.query.clone();
    given.extend(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let reply = match validate(head, &given, shared) {
        Some(reply) => reply,
        None => {
            let mut cluster = lock(&shared.cluster);
            cluster.advance();
            spoil(&fault, &mut cluster);
            let result = api::upload(&mut cluster, node, storage, file);
            cluster.spoil = None;
            cluster.advance();
            result.unwrap_or_else(|reply| reply)
        }
    };
    // Uploads end their connection.
    after(&fault, reply, stream, shared).map(|_| false)
}
