//! The small parts of a disk that are made anew for each.

use super::cluster::{CLUSTER, Packed, Packer};
use super::{Compression, Error, qcow2};

/// Packed clusters in memory.
pub(super) struct Small {
    packer: Packer,
    /// Host clusters.
    pub bytes: Vec<u8>,
    /// Clusters of the guest and their entries.
    entries: Vec<(u64, [u64; 1])>,
    /// Those that are kept as they are.
    raw: Vec<(u64, Vec<u8>)>,
}

impl Small {
    /// None yet.
    pub fn new(compression: Compression) -> Result<Self, Error> {
        let packer = Packer::new(compression).map_err(Error::Compress)?;
        Ok(Self { packer, bytes: Vec::new(), entries: Vec::new(), raw: Vec::new() })
    }

    /// Packs the guest's cluster of this number.
    pub fn add(&mut self, number: u64, cluster: &[u8]) -> Result<(), Error> {
        match self.packer.pack(cluster).map_err(Error::Compress)? {
            Packed::Zero => {}
            Packed::Raw => self.raw.push((number, cluster.to_vec())),
            Packed::Compressed(bytes) => {
                let entry = qcow2::compressed_entry(self.bytes.len() as u64, bytes.len() as u64);
                self.entries.push((number, [entry]));
                self.bytes.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }

    /// Completes the last host cluster and appends those that are kept as they are.
    pub fn finish(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(CLUSTER as usize), 0);
        for (number, cluster) in std::mem::take(&mut self.raw) {
            self.entries.push((number, [qcow2::standard_entry(self.bytes.len() as u64)]));
            self.bytes.extend_from_slice(&cluster);
        }
        self
    }

    /// What the image file has to know of it.
    pub fn part(&self) -> qcow2::Part<'_> {
        let runs = self.entries.iter().map(|(first, table)| qcow2::Run { first: *first, table });
        qcow2::Part { size: self.bytes.len() as u64, runs: runs.collect() }
    }
}
