//! Headless Chromium, which looks at pages as a browser does.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What Chromium says of a page at a width.
#[derive(Debug)]
pub struct Look {
    /// How wide the page wants to be, in pixels.
    pub scroll_width: u64,
    /// The ids of elements that are there and take room.
    pub ids: Vec<String>,
    /// All text that is shown or folded away.
    pub text: String,
}

/// Looks at `page` in frames of these `widths`, in which no script runs. Returns what it sees, and what the
/// console says: refused requests among it. None if there is no Chromium.
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
pub fn look(page: &str, widths: &[u32], scratch: &Path) -> Option<(Vec<Look>, Vec<String>)> {
    let source = page.replace('&', "&amp;").replace('"', "&quot;");
    let frame = |width: &u32| {
        format!(
            "<iframe sandbox=\"allow-same-origin\" style=\"border:0;width:{width}px;height:900px\" \
             srcdoc=\"{source}\"></iframe>\n"
        )
    };
    let frames: String = widths.iter().map(frame).collect();
    let outer = format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><body>{frames}<script>\n\
         onload = () => {{\n\
           const looks = [...document.querySelectorAll('iframe')].map(frame => {{\n\
             const page = frame.contentDocument;\n\
             const ids = [...page.querySelectorAll('[id]')].filter(it => it.getBoundingClientRect().height > 0);\n\
             return {{ width: page.documentElement.scrollWidth, ids: ids.map(it => it.id), text: page.body.textContent }};\n\
           }});\n\
           document.body.textContent = JSON.stringify(looks);\n\
         }};\n</script>"
    );
    let path = scratch.join("frames.html");
    std::fs::write(&path, outer).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars"])
        .args(["--enable-logging=stderr", "--log-level=0", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", path.display()))
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: there is no chromium");
        return None;
    };
    let dom = String::from_utf8(output.stdout).unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let json = dom.split_once("<body>").and_then(|(_, rest)| rest.rsplit_once("</body>"));
    let (json, _) = json.unwrap_or_else(|| panic!("Chromium shows nothing: {dom}\n{log}"));
    // The serializer of HTML escapes these, and JSON none of them.
    let json = json.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}");
    let json = json.replace("&amp;", "&");
    let looks: Vec<Value> =
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {dom}\n{log}"));
    let look = |look: Value| Look {
        scroll_width: look["width"].as_u64().unwrap(),
        ids: serde_json::from_value(look["ids"].clone()).unwrap(),
        text: look["text"].as_str().unwrap().to_owned(),
    };
    let console = log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned);
    Some((looks.into_iter().map(look).collect(), console.collect()))
}
