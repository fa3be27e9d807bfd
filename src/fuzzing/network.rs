//! What answers on the network, and out of guests.

use std::io::{Cursor, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::parts;
use crate::boot::agent::Agent;
use crate::fetch::{challenge, token};
use crate::proxmox::http::answer;
use crate::proxmox::{Properties, Upid, VolumeId};

/// Answers of Proxmox VE, and the texts of its own that stand in them.
pub fn proxmox(bytes: &[u8]) {
    let mut stream = Cursor::new(bytes);
    // What comes after an answer is one more.
    for _ in 0..3 {
        if !answer::is_answer(&mut stream) {
            break;
        }
    }
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines().take(50) {
        if let Ok(properties) = line.parse::<Properties>() {
            let again: Properties =
                properties.to_string().parse().expect("what is written is read");
            assert_eq!(again, properties);
        }
        if let Ok(upid) = line.parse::<Upid>() {
            assert_eq!(upid.to_string(), line);
        }
        let _ = line.parse::<VolumeId>();
    }
}

pub fn proxmox_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "HTTP/1.1 200 OK\r\nDate: Thu, 26 Nov 2026 07:33:20 GMT\r\nContent-Length: 11\r\n\r\n{\"data\":[]}",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 no such VM\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\n{}\n\r\n0\r\n\r\n",
        "HTTP/1.0 401 permission denied\r\nConnection: close\r\n\r\nuntil the end",
        "virtio=AA:BB:CC:00:11:22,bridge=vmbr0,firewall=1\nlocal-lvm:vm-100-disk-0,size=32G\n\
         UPID:pve1:0000A1B2:00C3D4E5:6745A3B1:qmstart:100:root@pam!token:\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// What an agent in a guest says, whatever it is asked.
pub fn guest_agent(bytes: &[u8]) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // More would fill the socket, and nobody reads here.
    let bytes = &bytes[..bytes.len().min(64 * 1024)];
    theirs.write_all(b"\xff{\"return\": 1}\n").unwrap();
    theirs.write_all(bytes).unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let mut agent = Agent::new(ours);
    let short = Duration::from_millis(1);
    if agent.synchronise(short).is_ok() {
        let _ = agent.ping(short);
        let _ = agent.interfaces();
        let _ = agent.execute(&["/bin/true"], short);
    }
}

pub fn guest_agent_seeds() -> Vec<Vec<u8>> {
    let text = "{\"return\": {}}\n{\"return\": [{\"name\": \"eth0\", \"ip-addresses\": [{\"ip-address\": \"10.0.0.1\", \
                \"prefix\": 24, \"ip-address-type\": \"ipv4\"}], \"hardware-address\": \"00:00\"}]}\n\
                {\"return\": {\"pid\": 7}}\n{\"return\": {\"exited\": true, \"exitcode\": 0, \"out-data\": \"YQ==\"}}\n";
    let refusal =
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n{\"event\": \"x\"}\n";
    vec![text.into(), refusal.into()]
}

/// What a registry wants before it gives anything, and what it gives as a token.
pub fn registry(bytes: &[u8]) {
    let mut parts = parts(bytes);
    let said = String::from_utf8_lossy(parts.next().unwrap_or_default());
    if let Some(Ok(address)) =
        challenge::address_of_tokens(&said, "https://registry.example.org/v2/a/b")
    {
        assert!(address.starts_with("https://"), "{address} is asked without a cipher");
        assert!(address.bytes().all(|byte| byte.is_ascii_graphic()), "{address:?} is no address");
    }
    if let Some(token) = token::token_in(parts.next().unwrap_or_default()) {
        assert!(token.bytes().all(|byte| byte.is_ascii_graphic()), "{token:?} breaks a header");
    }
}

pub fn registry_seeds() -> Vec<Vec<u8>> {
    let challenge = "Bearer realm=\"https://auth.docker.io/token?a=b\",service=\"registry.docker.io\",\
                     scope=\"repository:a/b:pull\", error=x";
    let answer = "{\"token\":\"abc\",\"access_token\":\"abc\",\"expires_in\":300}";
    vec![super::joined(&[challenge.as_bytes(), answer.as_bytes()])]
}
