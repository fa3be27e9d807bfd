//! A swap that is held to a plan: it does what somebody has seen, or nothing.

use serde_json::Value;

use super::pve::{Cluster, Fault, Flavour, When};
use super::support::programs::read;
use super::support::project::Ended;
use super::{NODES, Site, all, base};

/// What a plan is written to.
const PLAN: &str = "out/plan.json";

impl Site {
    fn plan(&self) {
        self.succeed(&["plan", "--out", PLAN]);
    }

    /// A swap that is held to the plan and finds another one, which says all of `says`, to people and to programs.
    #[track_caller]
    fn differs(&self, names: &[&str], says: &[&str]) {
        let before = (self.pve.changes().len(), self.running());
        let swap = |more: &[&str]| {
            let arguments = [&["swap"], names, &["--yes", "--expect", PLAN], more].concat();
            let ended = self.run(&arguments);
            assert_eq!(ended.code, 1, "{}", ended.stderr);
            ended
        };
        let Ended { stderr, .. } = swap(&[]);
        let said = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = said.replace("│ ", "");
        for one in
            says.iter().chain(&["this is not what out/plan.json says", "nothing was changed"])
        {
            assert!(said.contains(one), "{one}: {stderr}");
        }
        let told = read(&swap(&["--json"]).stdout);
        assert_eq!(told["outcome"], "refused", "{told}");
        assert!(told["reason"].as_str().unwrap().contains(says[0]), "{told}");
        assert_eq!((self.pve.changes().len(), self.running()), before, "something was changed");
    }
}

#[test]
fn a_swap_does_the_plan_that_somebody_has_seen_and_no_other() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    let first = site.build("1");
    site.plan();
    site.succeed(&["swap", "--yes", "--expect", PLAN]);
    assert_eq!(site.running(), all(&first));

    // The same plan again, of what is done already.
    site.differs(&[], &["- app3: create container"]);
    site.plan();
    site.succeed(&["swap", "--yes", "--expect", PLAN]);

    // Another image than that of the plan.
    let second = site.build("2");
    site.plan();
    let third = site.build("3");
    let (seen, now) = (format!("wanted {second}"), format!("wanted {third}"));
    site.differs(&[], &[&seen, &now, "+ app3: create container"]);

    // Not all that the plan says.
    site.plan();
    site.differs(&["app3"], &["- app1: create container"]);
    site.differs(&["--canary"], &["- app1: create container"]);

    // Another guest than that of the plan.
    let overlay = site.project.read("overlays/campus/overlay.toml");
    let wider = overlay.replace("memory_mib = 512", "memory_mib = 1024");
    site.project.write("overlays/campus/overlay.toml", &wider);
    site.differs(&[], &["--memory 512", "--memory 1024"]);
    site.project.write("overlays/campus/overlay.toml", &overlay);

    // Another state of the site.
    let guest = running(&site, "app2");
    site.pve.cluster().guests.get_mut(&guest).unwrap().running = false;
    site.differs(&[], &[&format!("+ app2: note that guest {guest} makes room")]);
    site.pve.cluster().guests.get_mut(&guest).unwrap().running = true;

    site.succeed(&["swap", "--yes", "--expect", PLAN]);
    assert_eq!(site.running(), all(&third));
    assert_eq!(site.pve.take_invalid(), [""; 0]);
}

/// The guest that runs as `name`.
fn running(site: &Site, name: &str) -> u32 {
    let cluster = site.pve.cluster();
    let mut guests = cluster.guests.iter().filter(|(_, guest)| guest.running);
    *guests.find(|(_, guest)| guest.config["hostname"] == name).unwrap().0
}

#[test]
fn what_changes_before_a_swap_has_the_lease_is_not_done_unseen() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    let first = site.build("1");
    site.succeed(&["swap", "--yes"]);
    site.build("2");
    site.plan();
    // Artifacts are verified for minutes; meanwhile somebody stops a guest.
    let stop = |cluster: &mut Cluster| {
        let mut guests = cluster.guests.values_mut();
        let app2 = guests.find(|it| it.running && it.config["hostname"] == "app2").unwrap();
        app2.running = false;
    };
    site.pve.plan(When::Next("PUT", "/qemu/4000/config"), Fault::After(stop));
    let before = site.pve.changes().len();
    let ended = site.run(&["swap", "--yes", "--expect", PLAN, "--json"]);
    assert_eq!((ended.code, site.pve.faults_left()), (1, 0), "{}", ended.stderr);
    let told = read(&ended.stdout);
    assert_eq!((&told["outcome"], &told["steps"]), (&"refused".into(), &Value::Array(Vec::new())));
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.starts_with("this is not what out/plan.json says"), "{reason}");
    assert!(reason.contains("+ app2: note that guest"), "{reason}");
    assert!(ended.stderr.contains("nothing was changed"), "{}", ended.stderr);
    // The lease was taken and given back, and that is all.
    let changes = site.pve.changes().split_off(before);
    assert_eq!(changes, ["PUT /nodes/pve1/qemu/4000/config"; 2]);
    assert_eq!(site.running(), [Some(first.clone()), None, Some(first)]);
    site.plan();
    site.succeed(&["swap", "--yes", "--expect", PLAN]);
    assert_eq!(site.pve.take_invalid(), [""; 0]);
}

#[test]
fn who_is_waited_for_may_change_and_a_plan_that_was_refused_is_none() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    site.build("1");
    site.succeed(&["swap", "--yes"]);
    let second = site.build("2");
    site.plan();
    let mut plan = read(&site.project.read(PLAN));
    assert_eq!(
        plan,
        read(&site.succeed(&["plan", "--json"])),
        "what is printed is what is written"
    );
    assert_eq!((&plan["verb"], &plan["site"]), (&"plan".into(), &"campus".into()));
    let steps = plan["steps"].as_array_mut().unwrap();
    let waits = steps.iter_mut().filter(|step| step["changes"] == false);
    assert!(waits.map(|step| step["step"] = "wait: a backup".into()).count() >= NODES.into());
    site.project.write(PLAN, &plan.to_string());
    site.succeed(&["swap", "--yes", "--expect", PLAN]);
    assert_eq!(site.running(), all(&second));

    // A refusal that was seen is no leave for what would be done without it.
    let policy = "[[forbidden]]\npackage = \"dash\"\nreason = \"a shell\"\n";
    site.project.write("policy.toml", policy);
    site.build("3");
    assert_eq!(site.run(&["plan", "--out", PLAN]).code, 1);
    assert_eq!(read(&site.project.read(PLAN))["ending"], "refused");
    std::fs::remove_file(site.project.path().join("policy.toml")).unwrap();
    site.differs(&[], &["- nothing: it was refused"]);
    assert_eq!(site.running(), all(&second));
}
