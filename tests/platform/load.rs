//! Users of the site, while it is changed: writers of the database, readers and writers of pages. Each counts
//! what it was promised, and how long it was not answered.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::browser::{Answer, Browser};

/// Where users find the site.
const DATABASE: &str = "10.20.30.20";
pub const SITE: &str = "10.20.40.5:80";
pub const NAME: &str = "moodle.campus.example";

/// A writer whom nobody answers takes his connection for dead after so long.
pub const SILENCE: Duration = Duration::from_secs(20);

/// A writer that has not been answered for so long ends the test.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often a request that may be repeated is sent before it counts as failed, and how far apart.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// What one user was promised, and what went wrong.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Each thing that was acknowledged, by a number.
    pub acknowledged: Vec<u64>,
    /// Names of files that the site said it had taken.
    pub files: BTreeSet<String>,
    /// Attempts that failed and were repeated.
    pub repeated: u64,
    /// What failed even when it was repeated, in words.
    pub failed: Vec<String>,
    /// Longest time between two answers.
    pub longest_gap: Duration,
}

/// Measures gaps between answers.
struct Answered {
    last: Instant,
    longest: Duration,
}

impl Answered {
    fn new() -> Self {
        Self { last: Instant::now(), longest: Duration::ZERO }
    }

    fn now(&mut self) {
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
    }
}

/// Users at work.
pub struct Load {
    over: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Tally>>,
    readers: Vec<JoinHandle<Tally>>,
    members: Vec<JoinHandle<Tally>>,
    uploaders: Vec<JoinHandle<Tally>>,
}

/// What users of each kind have to say, in the end.
pub struct Outcome {
    /// By the number of the writer.
    pub writers: Vec<Tally>,
    pub readers: Vec<Tally>,
    pub members: Vec<Tally>,
    pub uploaders: Vec<Tally>,
}

/// How many there are of each.
#[derive(Clone, Copy)]
pub struct Users {
    pub writers: u32,
    pub readers: u32,
    pub members: u32,
    pub uploaders: u32,
}

impl Load {
    /// Starts them on the network of the process `host`, with this password for the database and this one for the
    /// site.
    pub fn start(host: u32, users: Users, database: &str, site: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let crowd = |count: u32, work: fn(User) -> Tally, password: &str| {
            (0..count)
                .map(|number| {
                    let user =
                        User { number, password: password.to_owned(), over: Arc::clone(&over) };
                    thread::spawn(move || {
                        enter(host);
                        work(user)
                    })
                })
                .collect()
        };
        Self {
            writers: crowd(users.writers, write, database),
            readers: crowd(users.readers, read, site),
            members: crowd(users.members, browse, site),
            uploaders: crowd(users.uploaders, upload, site),
            over,
        }
    }

    /// Ends their work.
    pub fn stop(self) -> Outcome {
        self.over.store(true, Ordering::Relaxed);
        let end = |threads: Vec<JoinHandle<Tally>>| {
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a user does not panic"))
                .collect()
        };
        Outcome {
            writers: end(self.writers),
            readers: end(self.readers),
            members: end(self.members),
            uploaders: end(self.uploaders),
        }
    }
}

/// Moves this thread onto the network of a process.
pub fn enter(process: u32) {
    let network = fs::File::open(format!("/proc/{process}/ns/net")).unwrap();
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

struct User {
    number: u32,
    password: String,
    over: Arc<AtomicBool>,
}

impl User {
    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A connection to the port for writing, as the application makes one for each request.
pub fn connect(password: &str) -> mysql::Result<Conn> {
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(DATABASE))
        .tcp_port(6033)
        .prefer_socket(false)
        .user(Some("moodle"))
        .pass(Some(password))
        .db_name(Some("moodle"))
        .tcp_connect_timeout(Some(Duration::from_secs(2)))
        .read_timeout(Some(SILENCE))
        .write_timeout(Some(SILENCE));
    Conn::new(options)
}

/// Writes one row after the other. A row is written again until somebody says that it is written: what was cut
/// off may be there already, hence IGNORE.
fn write(user: User) -> Tally {
    let mut tally = Tally::default();
    let mut answered = Answered::new();
    let mut connection = None;
    let mut row = 0;
    while !user.over() {
        let result = match connection.take() {
            Some(connection) => Ok(connection),
            None => connect(&user.password),
        }
        .and_then(|mut open: Conn| {
            let statement = "INSERT IGNORE INTO written (worker, number) VALUES (?, ?)";
            open.exec_drop(statement, (user.number, row)).map(|()| open)
        });
        match result {
            Ok(open) => {
                answered.now();
                tally.acknowledged.push(row);
                row += 1;
                // As many requests as one worker of the application serves on one connection.
                connection = (row % 20 != 0).then_some(open);
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => {
                tally.repeated += 1;
                assert!(answered.last.elapsed() < PATIENCE, "no row for too long: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
    tally.longest_gap = answered.longest;
    tally
}

/// Asks until there is an answer below 500, a few times.
fn insist(
    tally: &mut Tally,
    answered: &mut Answered,
    mut ask: impl FnMut() -> std::io::Result<Answer>,
) -> Option<Answer> {
    let mut why = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tally.repeated += 1;
            thread::sleep(PAUSE);
        }
        match ask() {
            Ok(answer) if answer.status < 500 => {
                answered.now();
                return Some(answer);
            }
            Ok(answer) => why = format!("{} {}", answer.status, answer.body),
            Err(error) => why = error.to_string(),
        }
    }
    tally.failed.push(why);
    None
}

fn field(answer: &Answer, name: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(&answer.body).ok()?[name].as_u64()
}

/// Reads the front page, over and over.
fn read(user: User) -> Tally {
    let mut tally = Tally::default();
    let mut answered = Answered::new();
    while !user.over() {
        let ask = || Browser::new(SITE, NAME).get_from_here("/");
        if let Some(answer) = insist(&mut tally, &mut answered, ask) {
            tally.acknowledged.push(field(&answer, "cached").unwrap_or_default());
        }
        thread::sleep(Duration::from_millis(50));
    }
    tally.longest_gap = answered.longest;
    tally
}

/// A browser that has signed in.
pub fn sign_in(password: &str) -> std::io::Result<Browser> {
    let mut browser = Browser::new(SITE, NAME);
    let form = format!("username=admin&password={password}");
    let answer = browser.post_from_here("/login/index.php", &form)?;
    match answer.status {
        303 => Ok(browser),
        _ => Err(std::io::Error::other(format!("{answer:?}"))),
    }
}

/// Signs in once and looks at pages that only members see. Each counts itself in the session, so a session that
/// was lost, or set back, is seen.
fn browse(user: User) -> Tally {
    let mut tally = Tally::default();
    let mut answered = Answered::new();
    let mut browser =
        sign_in(&user.password).expect("the member signs in before anything is changed");
    let mut page = 0;
    while !user.over() {
        let ask = || browser.get_from_here("/my/");
        if let Some(answer) = insist(&mut tally, &mut answered, ask) {
            match (answer.status, field(&answer, "pages")) {
                // A request that was cut off and repeated may have counted twice.
                (200, Some(number)) if number > page => page = number,
                (status, number) => tally.failed.push(format!(
                    "page {number:?} after page {page} of the session, status {status}"
                )),
            }
            tally.acknowledged.push(page);
        }
        thread::sleep(Duration::from_millis(70));
    }
    tally.longest_gap = answered.longest;
    tally
}

/// Uploads files. The same content is the same file, so an upload may be repeated.
fn upload(user: User) -> Tally {
    let mut tally = Tally::default();
    let mut answered = Answered::new();
    let mut number = 0;
    while !user.over() {
        let content = format!("essay {number} of {}\n", user.number).repeat(200);
        let ask = || Browser::new(SITE, NAME).upload_from_here("/pluginfile.php", &content);
        if let Some(answer) = insist(&mut tally, &mut answered, ask) {
            match answer.body.split_whitespace().next() {
                Some(name) if answer.status == 200 && name.len() == 40 => {
                    tally.files.insert(name.to_owned());
                    tally.acknowledged.push(number);
                }
                _ => tally.failed.push(format!("{answer:?}")),
            }
        }
        number += 1;
        thread::sleep(Duration::from_millis(150));
    }
    tally.longest_gap = answered.longest;
    tally
}
