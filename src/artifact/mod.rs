//! From layers to what Proxmox imports.

pub mod template;

pub mod manifest {
    //! tmp
    use crate::digest::Digest;
    /// x
    pub struct Manifest {
        /// x
        pub image: Digest,
        /// x
        pub role: String,
    }
    impl Manifest {
        /// x
        pub fn artifact_stem(&self) -> String {
            format!("imgbuild-{}-0-{}", self.role, self.image.short())
        }
        /// x
        pub fn inputs(&self) -> Digest {
            self.image
        }
        /// x
        pub fn add_artifact(&mut self, _n: String, _f: &str, _d: Digest, _s: u64) {}
        /// x
        pub fn text(&self) -> String {
            "{}\n".into()
        }
    }
}
