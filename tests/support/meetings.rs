//! Three servers that only look like BigBlueButton (`tests/data/bbb-fake`), and what Scalelite, which knows them, is
//! asked.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use imgbuild::digest::Digest;

/// What `--source` has to be told to build the image of Scalelite, or what nobody has said of it.
pub fn sources() -> Result<Vec<String>, String> {
    [
        ("scalelite", "IMGBUILD_TEST_SCALELITE"),
        ("tabulo", "IMGBUILD_TEST_TABULO"),
        ("redis-gem", "IMGBUILD_TEST_REDIS_GEM"),
    ]
    .iter()
    .map(|(source, variable)| {
        let path = env::var(variable).map_err(|_| format!("{variable} is not set"))?;
        Ok(format!("{source}={path}"))
    })
    .collect()
}

/// A conference server that ends with the test.
pub struct Fake(Child);

impl Fake {
    /// The address of the server of this number.
    pub fn address(number: u8) -> String {
        format!("10.20.50.1{number}")
    }

    /// Starts one on the network of this thread, which must have its address.
    pub fn start(number: u8) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bbb-fake/bbb-fake");
        let mut python = Command::new("python3");
        python.arg(program).args([format!("{}:443", Self::address(number)), secret(number)]);
        Self(python.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // One that has ended by itself has failed the test already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The name of the server of this number.
pub fn server(number: u8) -> String {
    format!("bbb{number}.campus.example")
}

fn secret(number: u8) -> String {
    format!("secret-of-bbb{number}")
}

/// The secret `scalelite.servers`: all three.
pub fn servers() -> String {
    (1..=3).map(|number| format!("{} {}\n", server(number), secret(number))).collect()
}

/// The path of a call that is signed with `secret`.
pub fn path(secret: &str, call: &str, query: &str) -> String {
    let checksum = Digest::of(format!("{call}{query}{secret}"));
    format!("/bigbluebutton/api/{call}?{query}&checksum={checksum}")
}

/// Whether an answer says that the call has succeeded.
pub fn succeeded(answer: &str) -> bool {
    answer.contains("<returncode>SUCCESS</returncode>")
}

/// How many meetings each of three servers has, the most first, if these are their places.
pub fn spread(places: impl Iterator<Item = String>) -> String {
    let mut count: BTreeMap<String, usize> = (1..=3).map(|number| (server(number), 0)).collect();
    for place in places {
        *count.entry(place).or_insert(0) += 1;
    }
    let mut count: Vec<_> = count.into_values().collect();
    count.sort_unstable_by(|one, other| other.cmp(one));
    count.iter().map(usize::to_string).collect::<Vec<_>>().join("/")
}
