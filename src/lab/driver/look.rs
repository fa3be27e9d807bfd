//! What there is in a lab.

use std::collections::BTreeSet;
use std::fs;

use super::Local;
use crate::definition::GuestKind;
use crate::lab::groups::State;
use crate::lab::guest::{Directory, failed};
use crate::lab::site::host;
use crate::swap::{
    CallError, Guest, Platform, Reading, Record, Status, Strangeness, Stranger, Survey,
};

impl Local {
    pub(super) fn look(&self) -> Result<Survey, CallError> {
        let (mut guests, mut strangers) = (Vec::new(), Vec::new());
        for guest in Directory::all(&self.place)? {
            match self.look_at(&guest)? {
                Looked::Ours(guest) => guests.push(*guest),
                Looked::Foreign(stranger) => strangers.push(stranger),
            }
        }
        let path = self.place.artifacts();
        let entries = fs::read_dir(&path).map_err(|error| failed("read", &path, error))?;
        let artifacts = entries
            .flatten()
            .filter_map(|entry| {
                let size = entry.metadata().map_or(0, |metadata| metadata.len());
                Some(((host(), entry.file_name().into_string().ok()?), size))
            })
            .collect();
        let away = BTreeSet::new();
        Ok(Survey { now: self.server_time()?, quorate: true, guests, strangers, away, artifacts })
    }

    fn look_at(&self, guest: &Directory) -> Result<Looked, CallError> {
        let stranger = |why| {
            Looked::Foreign(Stranger {
                id: guest.id,
                name: None,
                host: Some(host()),
                busy: None,
                why,
            })
        };
        // First: what changes while it is looked at is then no longer what was seen.
        let revision = guest.revision();
        let (Ok(revision), Ok(text)) = (revision, guest.description()) else {
            return Ok(stranger(Strangeness::NoRecord));
        };
        let record = match Record::read(&text) {
            Reading::None => return Ok(stranger(Strangeness::NoRecord)),
            Reading::Unreadable(error, _) => return Ok(stranger(Strangeness::Unreadable(error))),
            Reading::Record(record) if record.site != self.settings.site => {
                return Ok(stranger(Strangeness::OtherSite(record.site)));
            }
            Reading::Record(record) => *record,
        };
        let state = self.groups.state(guest.id);
        Ok(Looked::Ours(Box::new(Guest {
            id: guest.id,
            host: host(),
            kind: GuestKind::Container,
            status: if state == State::Stopped { Status::Stopped } else { Status::Running },
            revision,
            record,
            volumes: guest.table(),
            root_gib: None,
            other_disks: Vec::new(),
            lock: None,
            busy: (state == State::Between).then(|| "lxc".to_owned()),
            managed: false,
            protected: false,
        })))
    }
}

enum Looked {
    Ours(Box<Guest>),
    Foreign(Stranger),
}
