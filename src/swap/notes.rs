//! A block of TOML in a guest's description, among the lines that people write there.
//!
//! Descriptions are shown as Markdown, hence the fence around the block. Only the lines between two
//! comments count, so that neither a lost fence nor changed ends of lines matter.

/// The longest description that Proxmox VE takes, in characters (`PVE::QemuServer`, `maxLength` of
/// `description`).
pub(super) const LIMIT: usize = 8192;

const FENCE: &str = "~~~";
const HEADLINE: &str = "imgbuild wrote what follows, change nothing in it.";

/// The comments around a block.
pub(super) struct Marks {
    pub(super) begin: &'static str,
    pub(super) end: &'static str,
}

/// What a description has between the comments.
pub(super) enum Found<'a> {
    /// There is no block.
    Nothing,
    /// The lines of the block.
    Block(String),
    /// A block that is not whole, with the lines that may be in it.
    Broken(String, Vec<&'a str>),
}

impl Marks {
    /// `table` as a block in a description that was `before`. The lines of people stay.
    pub(super) fn write(&self, title: &str, table: &str, before: &str) -> String {
        let Self { begin, end } = self;
        let block = format!("{title}: {HEADLINE}\n\n{FENCE}toml\n{begin}\n{table}{end}\n{FENCE}\n");
        match self.others(before) {
            others if others.is_empty() => block,
            others => format!("{others}\n\n{block}"),
        }
    }

    /// The block in `description`.
    pub(super) fn read<'a>(&self, description: &'a str) -> Found<'a> {
        let lines: Vec<&str> = description.lines().map(str::trim_end).collect();
        let is = |mark: &str, line: &&str| line.trim_start() == mark;
        let Some(begin) = lines.iter().position(|line| is(self.begin, line)) else {
            return Found::Nothing;
        };
        let rest = &lines[begin + 1..];
        if rest.iter().any(|line| is(self.begin, line)) {
            return Found::Broken("there are two of them".to_owned(), rest.to_vec());
        }
        match rest.iter().position(|line| is(self.end, line)) {
            Some(end) => Found::Block(rest[..end].join("\n")),
            None => Found::Broken(format!("the line `{}` is missing", self.end), rest.to_vec()),
        }
    }

    /// What `description` has besides the block, its fence and its headline.
    fn others(&self, description: &str) -> String {
        let mut kept: Vec<&str> = Vec::new();
        let mut lines = description.lines().map(str::trim_end).peekable();
        while let Some(line) = lines.next() {
            if line.trim_start() == self.begin {
                kept.pop_if(|line| line.trim_start().trim_end_matches("toml") == FENCE);
                lines.by_ref().find(|line| line.trim_start() == self.end);
                lines.next_if(|line| line.trim_start() == FENCE);
            } else if !line.ends_with(HEADLINE) {
                kept.push(line);
            }
        }
        kept.join("\n").trim().to_owned()
    }
}
