//! The figures of a run, as the tables of docs/validation.md.

use std::fmt::Write;
use std::time::Duration;
use std::{env, fs};

/// What the thesis showed, and what was seen here.
#[derive(Default)]
pub struct Report {
    thesis: Vec<[String; 4]>,
    swaps: Vec<[String; 3]>,
    faults: Vec<[String; 2]>,
    notes: Vec<String>,
}

impl Report {
    pub fn deployed(&mut self, took: Duration) {
        self.notes.push(format!("All guests were deployed and ready after {}.", seconds(took)));
    }

    /// A row beside the thesis' own: its figures, what they show, what it saw, what was seen here.
    pub fn thesis(&mut self, figures: &str, what: &str, theirs: &str, ours: impl Into<String>) {
        let row = [figures.to_owned(), what.to_owned(), theirs.to_owned(), ours.into()];
        eprintln!("{}", row.join(" | "));
        self.thesis.push(row);
    }

    pub fn swap(&mut self, what: &str, took: Duration, seen: impl Into<String>) {
        let row = [what.to_owned(), seconds(took), seen.into()];
        eprintln!("{}", row.join(" | "));
        self.swaps.push(row);
    }

    pub fn fault(&mut self, what: &str, seen: impl Into<String>) {
        let row = [what.to_owned(), seen.into()];
        eprintln!("{}", row.join(" | "));
        self.faults.push(row);
    }

    /// Writes the tables to where the environment wants them.
    pub fn write(&self) {
        let Some(path) = env::var_os("IMGBUILD_VALIDATION") else { return };
        let mut text = include_str!("validation.md.in").to_owned();
        for (mark, head, rows) in [
            (
                "<!-- thesis -->",
                "| figures | what | the thesis | here |",
                self.thesis.iter().map(|row| row.join(" | ")).collect::<Vec<_>>(),
            ),
            (
                "<!-- swaps -->",
                "| replaced | took | what users noticed |",
                self.swaps.iter().map(|row| row.join(" | ")).collect(),
            ),
            (
                "<!-- faults -->",
                "| what happens | what follows |",
                self.faults.iter().map(|row| row.join(" | ")).collect(),
            ),
        ] {
            let columns = head.matches('|').count() - 1;
            let mut table = format!("{head}\n|{}\n", "---|".repeat(columns));
            for row in rows {
                writeln!(table, "| {row} |").unwrap();
            }
            text = text.replace(mark, table.trim_end());
        }
        text = text.replace("<!-- notes -->", &self.notes.join("\n"));
        fs::write(path, text).unwrap();
    }
}

/// Seconds, as people write them.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
