//! The lease of a lab. Whoever holds it also keeps a file locked, so that one who has died is not waited for.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use super::guest::failed;
use super::place::{Place, replace};
use crate::digest::Digest;
use crate::swap::{CallError, Lease, Revision};

/// The lease, and the lock of whoever holds it, if that is this process.
pub(super) struct Leases {
    place: Place,
    own: RefCell<Option<(String, File)>>,
}

impl Leases {
    pub(super) fn new(place: Place) -> Self {
        Self { place, own: RefCell::new(None) }
    }

    /// The lease, unless its holder has died.
    pub(super) fn read(&self) -> Result<(Option<Lease>, Revision), CallError> {
        let text = self.text()?;
        let lease = Lease::read(&text).map_err(|error| CallError::Failed(error.to_string()))?;
        let lease = lease.filter(|lease| self.lives(&lease.holder.token));
        Ok((lease, revision(&text)))
    }

    fn text(&self) -> Result<String, CallError> {
        let path = self.place.lease();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(failed("read", &path, error)),
        }
    }

    pub(super) fn write(&self, lease: Option<&Lease>, seen: &Revision) -> Result<(), CallError> {
        let path = self.place.lease();
        let _lock = self.place.lock().map_err(|error| failed("lock", self.place.root(), error))?;
        let before = self.text()?;
        if revision(&before) != *seen {
            return Err(CallError::Conflict("the lease was changed a moment ago".to_owned()));
        }
        // First, so that nobody sees a lease whose holder seems to be dead.
        if let Some(lease) = lease {
            self.live(&lease.holder.token)?;
        }
        replace(&path, &Lease::describe(lease, &before))
            .map_err(|error| failed("write", &path, error))?;
        if lease.is_none() {
            self.end();
        }
        Ok(())
    }

    fn path(&self, token: &str) -> Option<PathBuf> {
        // It comes from a file, and becomes a part of a path.
        let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| self.place.operators().join(token))
    }

    fn live(&self, token: &str) -> Result<(), CallError> {
        if self.own.borrow().as_ref().is_some_and(|(own, _)| own == token) {
            return Ok(());
        }
        self.end();
        let Some(path) = self.path(token) else {
            return Err(CallError::Failed(format!("`{token}` cannot tell holders apart")));
        };
        let locked = File::create(&path).and_then(|file| Ok(file.try_lock().map(|()| file)?));
        let file = locked.map_err(|error| failed("lock", &path, error))?;
        self.own.replace(Some((token.to_owned(), file)));
        Ok(())
    }

    /// The kernel lets go of a lock when its holder dies, however that happens.
    fn lives(&self, token: &str) -> bool {
        if self.own.borrow().as_ref().is_some_and(|(own, _)| own == token) {
            return true;
        }
        let file = self.path(token).and_then(|path| File::open(path).ok());
        // Whoever cannot be asked is taken to live; his lease runs out.
        file.is_some_and(|file| file.try_lock_shared().is_err())
    }

    fn end(&self) {
        if let Some((token, _file)) = self.own.take()
            && let Some(path) = self.path(&token)
        {
            let _ = fs::remove_file(path);
        }
    }

    /// Removes what dead holders have left.
    pub(super) fn tidy(&self) {
        let Ok(entries) = fs::read_dir(self.place.operators()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|token| !self.lives(token)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.end();
    }
}

fn revision(text: &str) -> Revision {
    Revision(Digest::of(text).to_string())
}
