//! Volumes that change hands.

use imgbuild::proxmox::{ConfigChange, Drive, Lock, MoveVolume, Properties, Reason};

use crate::pve;
use crate::{BOTH, container, filled, hand_over, machine, volume, wait};

#[test]
fn a_state_volume_changes_hands_and_comes_back() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        for (old, new, key) in
            [(machine(4001), machine(4002), "scsi1"), (container(4101), container(4102), "mp0")]
        {
            let before = client.config(&old).unwrap();
            let name = volume(&before, key).unwrap();
            let identity = pve.cluster().volumes[&name].identity;
            hand_over(&client, &old, key, &new).unwrap();
            assert_eq!(volume(&client.config(&old).unwrap(), key), None);
            let after = client.config(&new).unwrap();
            let moved = after.drive(key).unwrap();
            assert_eq!(moved.volume.as_ref().unwrap().owner(), Some(new.vmid));
            assert_eq!(moved.options, before.drive(key).unwrap().options.clone().renamed(&moved));
            assert_eq!(pve.cluster().volumes[&volume(&after, key).unwrap()].identity, identity);
            // The one that gave it away can go, and the volume stays.
            hand_over(&client, &new, key, &old).unwrap();
            hand_over(&client, &old, key, &new).unwrap();
            wait(&client, client.destroy(&old).unwrap()).unwrap();
            let name = volume(&client.config(&new).unwrap(), key).unwrap();
            assert_eq!(pve.cluster().volumes[&name].identity, identity);
        }
    }
}

/// The options of a drive, with the volume of another one.
trait Renamed {
    fn renamed(self, drive: &Drive) -> Self;
}

impl Renamed for Properties {
    fn renamed(self, drive: &Drive) -> Self {
        let first = self.first().unwrap_or_default();
        let own = drive.volume.as_ref().unwrap().to_string();
        self.to_string().replacen(first, &own, 1).parse().unwrap()
    }
}

#[test]
fn a_volume_does_not_change_hands_when_it_must_not() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        for (old, new, key) in
            [(machine(4001), machine(4002), "scsi1"), (container(4101), container(4102), "mp0")]
        {
            let number = old.vmid.number();
            let refused = |what: &str| {
                let error = hand_over(&client, &old, key, &new).unwrap_err();
                assert!(error.to_string().contains(what), "{error}");
                error
            };
            let change = |change: &dyn Fn(&mut pve::Guest)| {
                change(pve.cluster().guests.get_mut(&number).unwrap());
            };
            change(&|guest| guest.running = true);
            refused("while the source");
            change(&|guest| guest.running = false);
            let config = pve.cluster().guests[&number].config.clone();
            change(&|guest| {
                guest.snapshots.insert("s".to_owned(), config.clone());
            });
            refused("used by a snapshot");
            change(&|guest| guest.snapshots.clear());
            change(&|guest| {
                guest.config.insert("lock".to_owned(), "backup".to_owned());
            });
            let locked = refused("is locked (backup)");
            assert_eq!(*locked.reason(), Reason::Locked(Lock::Config("backup".to_owned())));
            assert!(locked.is_transient());
            change(&|guest| {
                guest.config.remove("lock");
            });
            pve.cluster().storages.get_mut("local-lvm").unwrap().can_rename = false;
            refused("does not support moving");
            pve.cluster().storages.get_mut("local-lvm").unwrap().can_rename = true;
            // Somebody changed the target in the meantime.
            let from_digest = client.config(&old).unwrap().digest;
            let stale = client.config(&new).unwrap().digest;
            client.configure(&new, &ConfigChange::new().description("new"), &stale).unwrap();
            let moved = client.move_volume(&MoveVolume {
                from: &old,
                key,
                from_digest: &from_digest,
                to: new.vmid,
                to_key: key,
                to_digest: &stale,
            });
            assert_eq!(*moved.unwrap_err().reason(), Reason::Modified);
            hand_over(&client, &old, key, &new).unwrap();
            let error = hand_over(&client, &old, key, &new).unwrap_err();
            assert!(error.message().contains("does not exist"), "{error}");
        }
        let error = hand_over(&client, &machine(4001), "scsi0", &machine(4002)).unwrap_err();
        assert!(error.message().contains("already in use"), "{error}");
    }
}
