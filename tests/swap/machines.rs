//! Virtual machines instead of containers.

use std::collections::BTreeSet;

use super::pve::{self, Flavour};
use super::{
    NODES, Site, a_sick_image_is_taken_back, all, base, brought_back, cleaned_up, deployed,
};

/// As containers are; their disks are imported, and their state volumes known by serial numbers.
#[test]
fn a_site_of_machines_is_deployed_changed_taken_back_and_cleaned_up() {
    let Some(base) = base() else { return };
    for flavour in [Flavour::V8, Flavour::V9] {
        let site = Site::of_machines(base, flavour);
        let first = site.build("1");
        a_storage_that_takes_no_images_is_named(&site);
        deployed(&site, &first);
        let creations = site.pve.seen().into_iter().filter(|it| it.path.ends_with("/qemu"));
        let imported = creations.filter(|creation| {
            creation.parameters.iter().any(|(key, value)| {
                key == "scsi0"
                    && value
                        .contains(&format!("import-from=local:import/imgbuild-app-1.0.0-{first}"))
            })
        });
        assert_eq!(imported.count(), usize::from(NODES));
        let macs = cards(&site);
        let second = site.build("2");
        let plan = site.succeed(&["plan", "--commands"]);
        for expected in ["$ qm create", "import-from=", "$ qm disk move", "$ qm start"] {
            assert!(plan.contains(expected), "{expected}: {plan}");
        }
        site.succeed(&["swap", "--yes"]);
        assert_eq!(site.running(), all(&second));
        assert_eq!(cards(&site), macs, "a node keeps its hardware address");
        brought_back(&site, &first);
        site.succeed(&["swap", "--yes"]);
        let third = site.build("3");
        a_sick_image_is_taken_back(&site, &second, &third);
        cleaned_up(&site);
        assert_eq!(site.pve.take_invalid(), [""; 0]);
    }
}

fn a_storage_that_takes_no_images_is_named(site: &Site) {
    let content = |change: &dyn Fn(&mut BTreeSet<String>)| {
        change(&mut site.pve.cluster().storages.get_mut("local").unwrap().content);
    };
    content(&|content| assert!(content.remove("import")));
    let ended = site.run(&["swap", "--yes"]);
    assert!([1, 4].contains(&ended.code), "{}", ended.stderr);
    for word in ["local", "import"] {
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
    }
    assert_eq!(site.running(), vec![None; NODES.into()]);
    content(&|content| assert!(content.insert("import".to_owned())));
}

/// The hardware addresses of the guests that run, by node.
fn cards(site: &Site) -> Vec<(String, String)> {
    let cluster = site.pve.cluster();
    let guests = cluster.guests.values().filter(|guest| guest.running);
    let card = |guest: &pve::Guest| {
        let mac = guest.config["net0"].split(',').find(|part| part.contains(":")).unwrap();
        (guest.config["name"].clone(), mac.to_owned())
    };
    let mut cards: Vec<_> = guests.map(card).collect();
    cards.sort();
    cards
}
