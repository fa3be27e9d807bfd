//! Whom verbs believe that look at layers, or build on them.

use miette::Result;

use crate::definition::Project;
use crate::publish::layers::Voucher;
use crate::verify::Rules;

/// Who is asked about layers that others have built: the policies of `project`, and of `site`.
pub(super) fn trust(project: &Project, site: Option<&str>) -> Result<Voucher> {
    Ok(Voucher { rules: Rules::of::<miette::Report>(project, site)?, signer: None })
}
