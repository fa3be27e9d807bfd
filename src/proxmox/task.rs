//! Tasks: what a node does in its own time, and how a client hears of its end.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::classify::sentence;
use super::client::Client;
use super::error::{Error, Method, Reason};
use super::names::{NodeName, Vmid};
use super::request::{Parameters, Path};

/// How many lines of a log an error has.
const LOG_LINES: u64 = 20;

/// The name of a task, `UPID:NODE:PID:PSTART:START:TYPE:ID:USER:` (`PVE/UPID.pm` of pve-common).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upid {
    text: String,
    node: NodeName,
    started: u32,
    kind: String,
    id: String,
    user: String,
}

/// Text that names no task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no UPID, the name of a task")]
pub struct ParseUpidError(String);

impl Upid {
    /// The node that it runs on; only that one knows how it is.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// When it began, by that node's clock, in seconds since 1970.
    pub fn started(&self) -> u32 {
        self.started
    }

    /// What it does: `qmcreate`, `imgcopy`, `qmmove`, `move_volume`, …
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What it does it to, mostly a VMID. May be empty.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The guest that it is about, if it is about one: also the source of a volume that is moved.
    pub fn vmid(&self) -> Option<Vmid> {
        let digits = self.id.split(|letter: char| !letter.is_ascii_digit()).next()?;
        digits.parse().ok().and_then(Vmid::new)
    }

    /// Who started it: `user@realm`, or `user@realm!token`.
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl FromStr for Upid {
    type Err = ParseUpidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let rest = text.strip_prefix("UPID:")?.strip_suffix(':')?;
            let parts: Vec<_> = rest.split(':').collect();
            let [node, pid, pstart, started, kind, id, user] = parts[..] else { return None };
            let hex = |text: &str, lengths: &[usize]| {
                let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
                (digits && lengths.contains(&text.len())).then_some(())
            };
            hex(pid, &[8])?;
            hex(pstart, &[8, 9])?;
            hex(started, &[8])?;
            let visible = |text: &str| text.chars().all(|letter| !letter.is_whitespace());
            if kind.is_empty() || user.is_empty() || ![kind, id, user].into_iter().all(visible) {
                return None;
            }
            Some(Self {
                text: text.to_owned(),
                node: node.parse().ok()?,
                started: u32::from_str_radix(started, 16).ok()?,
                kind: kind.to_owned(),
                id: id.to_owned(),
                user: user.to_owned(),
            })
        };
        parse().ok_or_else(|| ParseUpidError(text.to_owned()))
    }
}

impl fmt::Display for Upid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Upid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// It goes on.
    Running,
    /// It succeeded.
    Done,
    /// It succeeded, and its log has so many warnings.
    Warned(u64),
    /// It did not succeed; the last thing it said.
    Failed(String),
    /// It has ended, and how is not yet written down.
    Ending,
}

impl TaskState {
    /// Reads `exitstatus` (`PVE/UPID.pm` and `upid_read_status` in `PVE/Tools.pm` of pve-common).
    fn ended(text: &str) -> Self {
        match (text, text.strip_prefix("WARNINGS: ").and_then(|count| count.parse().ok())) {
            ("OK", _) => Self::Done,
            (_, Some(count)) => Self::Warned(count),
            ("unexpected status" | "", _) => Self::Ending,
            _ => Self::Failed(text.to_owned()),
        }
    }
}

/// The lines of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLog {
    /// The lines that were asked for.
    pub lines: Vec<String>,
    /// How many there are.
    pub total: u64,
}

impl Client {
    /// How a task is. `GET /nodes/{node}/tasks/{upid}/status`.
    ///
    /// # Errors
    ///
    /// [`Reason::NotFound`] when its node does not know it any more.
    pub fn task_state(&self, upid: &Upid) -> Result<TaskState, Error> {
        #[derive(Deserialize)]
        struct Status {
            status: String,
            exitstatus: Option<String>,
        }
        let path = path(upid).and("status");
        let status: Status = self.get(&path, Parameters::new())?;
        Ok(if status.status == "running" {
            TaskState::Running
        } else {
            TaskState::ended(&status.exitstatus.unwrap_or_default())
        })
    }

    /// The tasks that run on `node` at the moment: those of the token, and with `Sys.Audit` on `/nodes/NODE`
    /// those of everybody. `GET /nodes/{node}/tasks?source=active`.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub fn running_tasks(&self, node: &NodeName) -> Result<Vec<Upid>, Error> {
        #[derive(Deserialize)]
        struct Item {
            upid: Upid,
            // The list also has those that have just ended.
            status: Option<String>,
        }
        let path = Path::new(["nodes", node.as_str(), "tasks"]);
        let parameters = Parameters::new().with("source", "active").with("limit", 500);
        let items: Vec<Item> = self.get(&path, parameters)?;
        let running = |item: &Item| item.status.as_deref().is_none_or(|status| status == "RUNNING");
        Ok(items.into_iter().filter(running).map(|item| item.upid).collect())
    }

    /// Some lines of a task's log, from line `start` on. `GET /nodes/{node}/tasks/{upid}/log`.
    ///
    /// # Errors
    ///
    /// As [`Client::task_state`].
    pub fn task_log(&self, upid: &Upid, start: u64, limit: u64) -> Result<TaskLog, Error> {
        #[derive(Deserialize)]
        struct Line {
            #[serde(default)]
            t: String,
        }
        let path = path(upid).and("log");
        let parameters = Parameters::new().with("start", start).with("limit", limit);
        let answer = self.call(Method::Get, &path, parameters)?;
        let total = answer.total;
        let lines: Vec<Line> = self.data(Method::Get, &path, answer)?;
        let total = total.unwrap_or(start + lines.len() as u64);
        Ok(TaskLog { lines: lines.into_iter().map(|line| line.t).collect(), total })
    }

    /// Waits until a task has ended, for `patience`, and gives its warnings: lines of its log, mostly none.
    ///
    /// `tick` is called at every look, with the usual [`Pace`](super::Pace) at least every two seconds or as
    /// long as an answer takes; what it fails with ends the waiting (and not the task).
    ///
    /// # Errors
    ///
    /// What the task failed with: a [`Reason`] that its last word tells, or [`Reason::Task`]. That it still
    /// runs: [`Reason::StillRunning`]. An error of the way does not end the waiting before `patience` is
    /// over: the task goes on meanwhile.
    pub fn wait<E: From<Error>>(
        &self,
        upid: &Upid,
        patience: Duration,
        tick: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<Vec<String>, E> {
        let begun = Instant::now();
        let mut pause = self.pace().first_look;
        let mut ending = false;
        loop {
            tick()?;
            match self.task_state(upid) {
                Ok(TaskState::Done) => return Ok(Vec::new()),
                Ok(TaskState::Warned(_)) => return Ok(self.warnings(upid)?),
                Ok(TaskState::Failed(last)) => return Err(self.failed(upid, &last).into()),
                // The end is written down a moment after the process is gone. When it is still not, the
                // process was killed.
                Ok(TaskState::Ending) if ending => {
                    return Err(self.failed(upid, "it was killed").into());
                }
                Ok(TaskState::Ending) => ending = true,
                Ok(TaskState::Running) => {}
                Err(error) if error.is_transient() && begun.elapsed() < patience => {}
                Err(error) => return Err(error.into()),
            }
            let waited = begun.elapsed();
            if waited >= patience {
                let reason = Reason::StillRunning { upid: upid.clone(), waited };
                let error = self.error(Method::Get, &path(upid), reason, "").of_task(upid);
                return Err(error.into());
            }
            std::thread::sleep(pause.min(patience - waited));
            pause = (pause * 2).min(self.pace().longest_look);
        }
    }

    /// The lines of a log that are warnings (`log_warn` of `PVE/RESTEnvironment.pm` puts `WARN: ` before
    /// them), or its last ones.
    fn warnings(&self, upid: &Upid) -> Result<Vec<String>, Error> {
        let lines = self.task_log(upid, 0, 5000)?.lines;
        let warnings: Vec<_> =
            lines.iter().filter(|line| line.starts_with("WARN")).cloned().collect();
        Ok(if warnings.is_empty() { tail(lines) } else { warnings })
    }

    fn failed(&self, upid: &Upid, last: &str) -> Error {
        let log = self.log_tail(upid).unwrap_or_default();
        let reason =
            sentence(last).unwrap_or_else(|| Reason::Task { upid: upid.clone(), log: log.clone() });
        let mut message = last.to_owned();
        if !matches!(reason, Reason::Task { .. }) {
            log.iter().for_each(|line| message.extend(["\n  ", line]));
        }
        self.error(Method::Get, &path(upid), reason, message).of_task(upid)
    }

    fn log_tail(&self, upid: &Upid) -> Result<Vec<String>, Error> {
        let total = self.task_log(upid, 0, 1)?.total;
        Ok(tail(self.task_log(upid, total.saturating_sub(LOG_LINES), LOG_LINES)?.lines))
    }
}

fn tail(lines: Vec<String>) -> Vec<String> {
    let from = lines.len().saturating_sub(LOG_LINES as usize);
    lines.into_iter().skip(from).filter(|line| !line.trim().is_empty()).collect()
}

fn path(upid: &Upid) -> Path {
    Path::new(["nodes", upid.node().as_str(), "tasks", &upid.text])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn upids_of_proxmox_are_read() {
        let text = "UPID:pve:00086DA5:00B7AA7A:6A4C5684:imgcopy::root@pam!sdk:";
        let upid: Upid = text.parse().unwrap();
        assert_eq!(upid.node().as_str(), "pve");
        assert_eq!((upid.kind(), upid.id(), upid.user()), ("imgcopy", "", "root@pam!sdk"));
        assert_eq!(upid.started(), 0x6A4C_5684);
        assert_eq!(upid.to_string(), text);
        let moved = "UPID:pve-2:00086DA5:1B7AA7A00:6A4C5684:qmmove:100-scsi1>101-scsi1:a@pve!b:";
        let moved: Upid = moved.parse().unwrap();
        assert_eq!(moved.id(), "100-scsi1>101-scsi1");
        assert_eq!(moved.vmid(), Vmid::new(100));
        assert_eq!(upid.vmid(), None);
    }

    #[test]
    fn other_text_is_no_upid() {
        for text in [
            "",
            "OK",
            "UPID:pve:00086DA5:00B7AA7A:6A4C5684:imgcopy::root@pam!sdk",
            "UPID:../x:00086DA5:00B7AA7A:6A4C5684:imgcopy::root@pam:",
            "UPID:pve:00086DA:00B7AA7A:6A4C5684:imgcopy::root@pam:",
            "UPID:pve:00086DA5:00B7AA7A:6A4C5684:::root@pam:",
            "UPID:pve:00086DA5:00B7AA7A:6A4C5684:img copy::root@pam:",
        ] {
            assert!(text.parse::<Upid>().is_err(), "{text}");
        }
    }

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(TaskState::ended("OK"), TaskState::Done);
        assert_eq!(TaskState::ended("WARNINGS: 2"), TaskState::Warned(2));
        assert_eq!(TaskState::ended("unexpected status"), TaskState::Ending);
        for text in ["WARNINGS: x", "OK then", "interrupted by signal"] {
            assert_eq!(TaskState::ended(text), TaskState::Failed(text.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "(UPID:)?[a-zA-Z0-9:@!.>-]{0,80}:?") {
            if let Ok(upid) = text.parse::<Upid>() {
                prop_assert_eq!(upid.to_string(), text);
            }
        }
    }
}
