//! An agent that has keys: the request to sign of its protocol (RFC 9987), which is all that it takes here.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::wire::{Reader, put};

/// SSH_AGENTC_SIGN_REQUEST
const SIGN_REQUEST: u8 = 13;
/// SSH_AGENT_SIGN_RESPONSE
const SIGN_RESPONSE: u8 = 14;
/// SSH_AGENT_RSA_SHA2_512: not SHA-1, whatever the agent would take by itself.
const RSA_SHA2_512: u32 = 4;

/// The longest answer that is read, as OpenSSH has it (`MAX_AGENT_REPLY_LEN` in `authfd.c`).
const LIMIT: u32 = 256 * 1024;

/// How long an answer may take: somebody may have to touch a token, or to agree.
const PATIENCE: Duration = Duration::from_secs(120);

/// The signature of `data` by the key with the public half `key`, which may be a certificate; none if the agent has no
/// such key, or nobody has agreed.
pub(super) fn sign(socket: &Path, key: &[u8], data: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut request = vec![SIGN_REQUEST];
    put(&mut request, key);
    put(&mut request, data);
    request.extend(RSA_SHA2_512.to_be_bytes());
    let mut message = Vec::new();
    put(&mut message, &request);

    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&message)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LIMIT {
        return Err(io::Error::other("the answer is longer than any"));
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    let mut reader = Reader::new(&answer);
    match reader.byte() {
        Some(SIGN_RESPONSE) => {
            let signature = reader.string().filter(|_| reader.is_at_end());
            let cut = || io::Error::other("the answer is cut off");
            Ok(Some(signature.ok_or_else(cut)?.to_vec()))
        }
        // SSH_AGENT_FAILURE, and whatever else is no signature.
        Some(_) => Ok(None),
        None => Err(io::Error::other("the answer is empty")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What comes of an agent that answers `answer`, whatever it is asked.
    fn asked(answer: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = answer.to_vec();
        let agent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&answer).unwrap();
            request
        });
        let result = sign(&socket, b"key", b"data");
        let request = agent.join().unwrap();
        assert_eq!(request, b"\x0d\0\0\0\x03key\0\0\0\x04data\0\0\0\x04");
        result
    }

    #[test]
    fn an_agent_signs_or_does_not() {
        let signed = asked(b"\0\0\0\x08\x0e\0\0\0\x03sig");
        assert_eq!(signed.unwrap(), Some(b"sig".to_vec()));
        assert_eq!(asked(b"\0\0\0\x01\x05").unwrap(), None);
    }

    #[test]
    fn an_agent_that_answers_anything_else_is_not_believed() {
        for answer in [
            &b""[..],
            b"\0\0\0\0",
            b"\0\0\0\x09\x0e\0\0\0\x03sig",
            b"\0\0\0\x09\x0e\0\0\0\x03sigx",
            b"\0\0\0\x05\x0e\0\0\0\x03",
            b"\xff\xff\xff\xff\x0e",
        ] {
            assert!(asked(answer).is_err(), "{answer:?}");
        }
        assert!(sign(Path::new("/nonexistent"), b"", b"").is_err());
    }
}
