//! `[cluster]` and `[swap]`: how many nodes a role wants at a site, and how one of them is replaced.

use super::document::Item;
use super::error::{Problem, Result};
use super::image::hook;
use super::name::ImageName;
use super::place::Place;
use super::schema;

/// What a role demands of its nodes at a site, if it has any there.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The least number of nodes, and where it is given.
    pub minimum: Option<(u32, Place)>,
    /// The only number of nodes that will do, and where it is given.
    pub exactly: Option<(u32, Place)>,
    /// Whether the number of votes must be odd, so that no split leaves two equal halves.
    pub odd: bool,
    /// The image whose nodes have a vote, too.
    pub arbitrator: Option<(ImageName, Place)>,
    /// Whether no two nodes may lie on one host.
    pub spread: bool,
    /// Where the table stands.
    pub place: Place,
}

/// How a node is taken out of service and replaced. Only one node of a role is away at a time.
#[derive(Clone, Debug)]
pub struct Swap {
    /// Roles with a lower number are replaced first.
    pub order: u32,
    /// The program, with its arguments, that makes the node give up its work without refusing any.
    pub drain: Option<Vec<String>>,
    /// The program, with its arguments, that succeeds once nothing is left to wait for.
    pub drained: Option<Vec<String>>,
    /// The program, with its arguments, that succeeds while the others of the role follow this node.
    pub leads: Option<Vec<String>>,
    /// How long draining may take, in seconds.
    pub patience: u32,
    /// How long a started guest may take until it is ready, in seconds.
    pub ready_within: u32,
    /// Where the table stands.
    pub place: Place,
}

impl Cluster {
    pub(super) fn read(item: &Item) -> Result<Self> {
        let table = item.table(&schema::CLUSTER.names())?;
        let count = |item: &Item| {
            Ok((item.integer_in(1..=9999, "a number from 1 to 9999")?, item.place.clone()))
        };
        let cluster = Self {
            minimum: table.optional("minimum", count)?,
            exactly: table.optional("exactly", count)?,
            odd: table.optional("odd", Item::boolean)?.unwrap_or(false),
            arbitrator: table
                .optional("arbitrator", |item| Ok((item.parse()?, item.place.clone())))?,
            spread: table.optional("spread", Item::boolean)?.unwrap_or(false),
            place: item.place.clone(),
        };
        let contradiction = match &cluster {
            Self { minimum: Some(_), exactly: Some((_, place)), .. } => {
                Some((place, "`exactly` says everything that `minimum` says"))
            }
            Self { arbitrator: Some((_, place)), odd: false, .. } => {
                Some((place, "`arbitrator` means something only with `odd = true`"))
            }
            _ => None,
        };
        match contradiction {
            Some((place, text)) => Err(place.error(Problem::Contradiction(text.to_owned()))),
            None => Ok(cluster),
        }
    }
}

impl Swap {
    /// How long draining may take where nothing is said, in seconds.
    const PATIENCE: u32 = 60;

    /// How long becoming ready may take where nothing is said, in seconds: a database first copies what it
    /// has missed.
    pub const READY_WITHIN: u32 = 900;

    pub(super) fn read(item: &Item) -> Result<Self> {
        let table = item.table(&schema::SWAP.names())?;
        let seconds =
            |item: &Item| item.integer_in(1..=86_400, "a number of seconds from 1 to 86400");
        let swap = Self {
            order: table
                .require("order")?
                .integer_in(0..=9999, "a number from 0 to 9999 (the lowest is replaced first)")?,
            drain: table.optional("drain", hook)?,
            drained: table.optional("drained", hook)?,
            leads: table.optional("leads", hook)?,
            patience: table.optional("patience", seconds)?.unwrap_or(Self::PATIENCE),
            ready_within: table.optional("ready_within", seconds)?.unwrap_or(Self::READY_WITHIN),
            place: item.place.clone(),
        };
        if let (Some(item), None) = (table.get("drained"), &swap.drain) {
            let message = "`drained` waits for what `drain` begins".to_owned();
            let help = Some("add `drain`, or remove `drained`".to_owned());
            return Err(item.place.error_with_help(Problem::Contradiction(message), help));
        }
        Ok(swap)
    }
}
