//! Where a lab lies, and how what lies there is changed.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::lease::Leases;
use super::settings::Settings;
use super::{Error, LabSite};
use crate::boot::{HeldHost, PrivateHost};
use crate::definition::{Network, SiteName};
use crate::digest::Digest;
use crate::swap::GuestId;

/// Where labs lie if nothing else is said.
const LABS: &str = "/var/lib/imgbuild/lab";

/// Others may pass, since ids of containers own nothing on the way to their own files, but not look.
const PASSABLE: u32 = 0o711;

/// Longer paths make addresses of lxc's sockets that nobody can read (unix(7): 108 bytes).
const PATH_LIMIT: usize = 60;

/// The directory of a lab.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
    site: SiteName,
}

impl Place {
    /// The lab in `directory`, or in the usual place for `site`.
    ///
    /// # Errors
    ///
    /// A path that cannot be that of a lab.
    pub fn new(directory: Option<&Path>, site: &SiteName) -> Result<Self, Error> {
        let root = match directory {
            Some(directory) => {
                std::path::absolute(directory).map_err(Error::io("find", directory))?
            }
            None => Path::new(LABS).join(site.as_str()),
        };
        let plain =
            root.as_os_str().as_encoded_bytes().iter().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-')
            });
        let upwards = root.components().any(|part| part == std::path::Component::ParentDir);
        if !plain || upwards || root.as_os_str().len() > PATH_LIMIT || root.parent().is_none() {
            return Err(Error::StrangePath(root));
        }
        Ok(Self { root, site: site.clone() })
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn guests(&self) -> PathBuf {
        self.root.join("guests")
    }

    pub(super) fn guest(&self, id: GuestId) -> PathBuf {
        self.guests().join(id.to_string())
    }

    pub(super) fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    pub(super) fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    pub(super) fn operators(&self) -> PathBuf {
        self.root.join("operators")
    }

    pub(super) fn lease(&self) -> PathBuf {
        self.root.join("lease")
    }

    pub(super) fn settings(&self) -> PathBuf {
        self.root.join("lab.json")
    }

    /// Its host, whether or not it runs.
    pub(super) fn host(&self) -> HeldHost {
        // Its name alone is not unique, and its path cannot be a name.
        let digest = Digest::of(self.root.as_os_str().as_encoded_bytes());
        HeldHost::new(self.root.join("host"), format!("imgbuild-lab-{}", digest.short()))
    }

    /// Its host.
    ///
    /// # Errors
    ///
    /// [`Error::NoLab`], [`Error::HostDown`].
    pub fn running_host(&self, executable: &Path) -> Result<PrivateHost, Error> {
        if !self.exists() {
            return Err(self.no_lab());
        }
        self.host().running(executable)?.ok_or_else(|| self.host_down())
    }

    pub(super) fn no_lab(&self) -> Error {
        Error::NoLab { directory: self.root.clone(), site: self.site.clone() }
    }

    pub(super) fn host_down(&self) -> Error {
        Error::HostDown { directory: self.root.clone(), site: self.site.clone() }
    }

    /// Whether a lab is there.
    pub fn exists(&self) -> bool {
        self.settings().exists()
    }

    /// Fails if something else than a lab is there.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`].
    pub fn check_free(&self) -> Result<(), Error> {
        let occupied = fs::read_dir(&self.root).is_ok_and(|mut entries| entries.next().is_some());
        match occupied && !self.exists() {
            true => Err(Error::Occupied(self.root.clone())),
            false => Ok(()),
        }
    }

    /// Makes the directory, if there is none.
    ///
    /// # Errors
    ///
    /// When something else is there, or guests could not reach it.
    pub(super) fn make(&self) -> Result<(), Error> {
        self.check_free()?;
        let above = self.root.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(above).map_err(Error::io("make", above))?;
        make_directory(&self.root, PASSABLE)?;
        if let Some(blocked) = self.root.ancestors().find(|above| !passable(above)) {
            let (directory, blocked) = (self.root.clone(), blocked.to_owned());
            return Err(Error::Unreachable { directory, blocked });
        }
        make_directory(&self.guests(), PASSABLE)?;
        [self.artifacts(), self.secrets(), self.operators()]
            .iter()
            .try_for_each(|path| make_directory(path, 0o700))
    }

    /// Makes the lab, or writes down what has changed about it, and starts its host if that does not run. Whether
    /// it had to be started.
    ///
    /// # Errors
    ///
    /// What cannot be made.
    pub fn set_up(
        &self,
        settings: &Settings,
        site: &LabSite,
        executable: &Path,
    ) -> Result<bool, Error> {
        self.make()?;
        {
            let _lock = self.lock().map_err(Error::io("lock", &self.root))?;
            settings.write(self)?;
        }
        let host = self.host();
        if let Some(host) = host.running(executable)? {
            // The site may have got another network.
            host.give_addresses(&site.gateways())?;
            speak_as_an_operator(&host, site)?;
            return Ok(false);
        }
        speak_as_an_operator(&host.start(executable, &site.gateways())?, site)?;
        Ok(true)
    }

    /// Waits for the right to change what lies here, which lasts as long as the result.
    pub(super) fn lock(&self) -> io::Result<File> {
        let path = self.root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok(file)
    }

    /// What was decided about the lab when it was made.
    ///
    /// # Errors
    ///
    /// [`Error::NoLab`], and settings that cannot be read.
    pub fn read_settings(&self) -> Result<Settings, Error> {
        Settings::read(self)
    }

    /// Ends everything that runs here and removes the directory.
    ///
    /// # Errors
    ///
    /// [`Error::NoLab`], and what could not be removed.
    pub fn remove(&self, executable: &Path) -> Result<(), Error> {
        if !self.exists() {
            return Err(self.no_lab());
        }
        // One that cannot be read keeps nobody from removing it with the rest.
        if let Ok((Some(lease), _)) = Leases::new(self.clone()).read() {
            return Err(Error::Operated(Box::new(lease)));
        }
        self.host().end(executable)?;
        // The settings last: as long as they are there this is a lab, which can be removed.
        let entries = fs::read_dir(&self.root).map_err(Error::io("read", &self.root))?;
        for entry in entries {
            let path = entry.map_err(Error::io("read", &self.root))?.path();
            if path == self.settings() {
                continue;
            }
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Error::io("remove", &path))?;
        }
        fs::remove_dir_all(&self.root).map_err(Error::io("remove", &self.root))?;
        if self.root.starts_with(LABS) {
            // Refused while another lab is there.
            let _ = fs::remove_dir(LABS);
            let _ = fs::remove_dir(Path::new(LABS).parent().unwrap_or(Path::new(LABS)));
        }
        Ok(())
    }
}

/// Guests let nobody else ask how they are.
fn speak_as_an_operator(host: &PrivateHost, site: &LabSite) -> Result<(), Error> {
    for source in site.sources()? {
        if source.new {
            host.give_addresses(&[Network::host(source.address).to_string()])?;
        }
        host.speak_from(source.address, &source.networks)?;
    }
    Ok(())
}

/// Makes a directory with this mode, if there is none.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("make", path)(error)),
    }
    // Whatever the umask is.
    let permissions = Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).map_err(Error::io("change the mode of", path))
}

fn passable(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
}

/// Makes `path` a file with this text: after a crash it has either the old text or the new one.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut temporary = tempfile::Builder::new().prefix(".new-").tempfile_in(parent)?;
    temporary.write_all(text.as_bytes())?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    sync_directory(parent)
}

/// Makes sure that what was renamed in a directory stays so after a crash.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
