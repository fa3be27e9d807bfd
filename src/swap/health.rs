//! Asks guests how they are: `GET /ready` on the port of `imgbuild-health.socket` (`docs/template.md`).

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::Health;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);

/// How long an answer may take: a health command has 20 seconds.
const ANSWER: Duration = Duration::from_secs(25);

/// The header by which a guest says whether the others of its role follow it (`[swap] leads`).
const LEADS: &str = "imgbuild-leads";

/// The longest answer that is read.
const LIMIT_BYTES: u64 = 4096;

/// Asks all `nodes` at once. One whose address is not known is silent.
pub(crate) fn ask_all(nodes: &[Option<SocketAddr>]) -> Vec<Health> {
    let agent = agent();
    thread::scope(|scope| {
        let asked: Vec<_> = nodes
            .iter()
            .map(|target| {
                let (agent, target) = (agent.clone(), *target);
                scope.spawn(move || match target {
                    Some(target) => ask(&agent, target),
                    None => Health::Silent("its address is not known".to_owned()),
                })
            })
            .collect();
        let silent = |_| Health::Silent("nobody asked it".to_owned());
        asked.into_iter().map(|one| one.join().unwrap_or_else(silent)).collect()
    })
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        // A guest of the site is asked, and nobody in between.
        .proxy(None)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(ANSWER))
        .build();
    config.into()
}

fn ask(agent: &ureq::Agent, target: SocketAddr) -> Health {
    let silent = |error: ureq::Error| Health::Silent(format!("{target}: {error}"));
    let mut answer = match agent.get(format!("http://{target}/ready")).call() {
        Ok(answer) => answer,
        Err(error) => return silent(error),
    };
    let leads = answer.headers().get(LEADS).is_some_and(|value| value == "yes");
    let body = answer.body_mut().with_config().limit(LIMIT_BYTES).read_to_string();
    let line = body.unwrap_or_default().lines().next().unwrap_or_default().trim().to_owned();
    match answer.status().as_u16() {
        200 => Health::Ready { leads },
        503 => Health::NotReady(line),
        status => Health::Silent(format!("{target} answers {status}: {line}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// What is made of one answer.
    fn asked(answer: &'static str) -> Health {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = connection.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /ready HTTP/1.1\r\n"));
            connection.write_all(answer.as_bytes()).unwrap();
        });
        let health = ask(&agent(), target);
        server.join().unwrap();
        health
    }

    #[test]
    fn a_guest_says_in_one_line_how_it_is() {
        assert_eq!(
            asked("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"),
            Health::Ready { leads: false }
        );
        for (says, leads) in [("yes", true), ("no", false)] {
            let head =
                format!("HTTP/1.1 200 OK\r\nImgbuild-Leads: {says}\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(asked(head.leak()), Health::Ready { leads });
        }
        assert_eq!(
            asked("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 11\r\n\r\nstate=Donor"),
            Health::NotReady("state=Donor".to_owned())
        );
        assert!(matches!(
            asked("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
            Health::Silent(_)
        ));
    }

    #[test]
    fn a_guest_that_is_not_there_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        drop(listener);
        assert!(matches!(ask(&agent(), target), Health::Silent(_)));
    }
}
