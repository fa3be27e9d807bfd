//! Places for what readers want as files.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, memfd_create};

/// A file in memory that has a path.
pub struct Scratch(File);

impl Scratch {
    pub fn new(bytes: &[u8]) -> Self {
        let mut file = File::from(memfd_create("fuzzing", MemfdFlags::CLOEXEC).unwrap());
        file.write_all(bytes).unwrap();
        Self(file)
    }

    pub fn file(&self) -> &File {
        &self.0
    }

    pub fn into_file(self) -> File {
        self.0
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// Where temporary files go: memory, where there is any as a directory.
pub fn place() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
    })
}

/// An empty directory that is gone when it is dropped.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(place()).unwrap()
}

/// Writes files, by their paths below `root`.
pub fn put(root: &Path, files: &[(&str, &[u8])]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}
