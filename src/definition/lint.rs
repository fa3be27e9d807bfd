//! lints
/// x
pub struct Finding {
    /// x
    pub name: &'static str,
    /// x
    pub message: String,
    /// x
    pub place: super::Place,
}
