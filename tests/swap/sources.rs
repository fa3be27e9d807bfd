//! Images that were built from what somebody gave by hand.

use super::Site;
use super::pve::Flavour;
use super::support::base::base;

const SOURCE: &str = "
[sources.code]
type = \"file\"
urls = [\"http://127.0.0.1:1/code\"]
sha256 = \"7e5edf110555956571f40e42acffde0eb23681ebebd212a2fec0fe7d795dd511\"
published = \"nowhere\"
into = \"/usr/share/code\"
doc = \"What it runs\"
";

impl Site {
    fn build_with(&self, source: &str) {
        self.project.write("code", source);
        let path = self.project.path().join("code");
        let given = format!("code={}", path.display());
        let arguments = ["build", "app", "--site", "campus", "--format", "lxc", "--source", &given];
        self.project.succeed(&arguments);
    }
}

#[test]
fn an_image_with_a_source_that_was_given_is_deployed_and_said_to_be_unpinned() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    let definition = site.project.read("images/app/image.toml");
    site.project.write("images/app/image.toml", &(definition + SOURCE));
    site.project.succeed(&["lock"]);
    site.build_with("one");
    let plan = site.run(&["plan"]);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    assert!(plan.stdout.contains("to be deployed"), "{}", plan.stdout);
    assert!(plan.stderr.contains("app: unpinned: source code: sha256 "), "{}", plan.stderr);

    // Nobody can tell which of the two is wanted.
    site.build_with("two");
    let plan = site.run(&["plan"]);
    assert_eq!(plan.code, 1);
    assert!(
        plan.stderr.contains("two artifacts of app are what the definitions say now"),
        "{}",
        plan.stderr
    );
    assert!(plan.stderr.contains("remove the one that shall not run"), "{}", plan.stderr);

    // What the definition pins has changed since both of them were built.
    let definition = site.project.read("images/app/image.toml").replace("7e5edf", "8f5edf");
    site.project.write("images/app/image.toml", &definition);
    site.project.succeed(&["lock"]);
    let plan = site.run(&["swap", "--yes"]);
    assert!(plan.stderr.contains("no artifact in "), "{}", plan.stderr);
}
