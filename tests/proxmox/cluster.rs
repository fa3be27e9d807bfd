//! The cluster, its storages, and what is on them.

use std::time::Duration;

use imgbuild::proxmox::{Content, Reason, VolumeId};

use crate::pve::Flavour;
use crate::{BOTH, IMAGE, container, filled, machine, vmid, wait};

#[test]
fn the_cluster_is_described() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let version = client.version().unwrap();
        assert!(version.is_supported());
        assert_eq!(version.has_agent_privileges(), flavour == Flavour::V9);
        let nodes = client.nodes().unwrap();
        assert_eq!((nodes.len(), nodes[0].online), (1, true));
        let status = client.cluster_status().unwrap();
        assert_eq!((status.name, status.quorate, status.asked), (None, true, Some(pve.node())));
        pve.cluster().clustered = true;
        pve.cluster().nodes.insert("pve2".to_owned(), false);
        let status = client.cluster_status().unwrap();
        assert_eq!(status.name.as_deref(), Some("campus"));
        assert_eq!(status.nodes[1], ("pve2".parse().unwrap(), false));
        let guests = client.guests().unwrap();
        assert_eq!(guests.len(), 4);
        assert_eq!(guests[0].guest, machine(4001));
        assert_eq!(guests[2].guest, container(4101));
        assert_eq!(
            (guests[0].name.as_str(), guests[0].pool.as_deref()),
            ("galera4001", Some("imgbuild"))
        );
        assert!(!client.is_free(vmid(4001)).unwrap());
        assert!(client.is_free(vmid(4003)).unwrap());
        let pool = client.pool("imgbuild").unwrap().unwrap();
        assert_eq!(pool.guests.len(), 4);
        let privileges = client.privileges("/vms/4001").unwrap();
        assert!(privileges.contains("VM.Config.Disk") && !privileges.contains("VM.Migrate"));
        assert!(client.privileges("/vms/999").unwrap().is_empty());
        assert!(client.ha_resources().unwrap().is_empty());
        pve.cluster().ha.insert(4001, "started".to_owned());
        assert_eq!(client.ha_resources().unwrap()[0].vmid(), Some(vmid(4001)));
        assert!(client.status(&machine(4001)).unwrap().ha_managed);
        let server = client.server_time().unwrap();
        let difference = server.duration_since(std::time::SystemTime::now());
        let difference = difference.unwrap_or_else(|error| error.duration());
        assert!(difference < Duration::from_secs(30), "{difference:?}");
    }
}

#[test]
fn storages_and_what_is_on_them_are_listed() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let node = pve.node();
        let all = client.storages(&node, None).unwrap();
        assert_eq!(all.len(), 2);
        let import = client.storages(&node, Some(Content::Import)).unwrap();
        assert_eq!(import[0].name.as_str(), "local");
        let local = client.storage(&node, &"local".parse().unwrap()).unwrap();
        assert!(local.takes(Content::Import) && local.takes(Content::Template));
        assert!(!local.takes(Content::Images));
        assert!(local.free_bytes.unwrap() < local.total_bytes.unwrap());
        let artifacts = client.content(&node, &local.name, Content::Import).unwrap();
        assert_eq!(artifacts.len(), 1);
        assert_eq!(artifacts[0].id.name(), format!("import/{IMAGE}"));
        assert_eq!(artifacts[0].size_bytes, Some(5));
        let missing = client.storage(&node, &"fast".parse().unwrap()).unwrap_err();
        assert!(matches!(missing.reason(), Reason::Forbidden { .. }), "{missing}");
        let upid = client.delete_artifact(&node, &artifacts[0].id).unwrap().unwrap();
        wait(&client, upid).unwrap();
        assert!(client.content(&node, &local.name, Content::Import).unwrap().is_empty());
        let disk: VolumeId = "local-lvm:vm-4001-disk-0".parse().unwrap();
        let refused = client.delete_artifact(&node, &disk).unwrap_err();
        assert!(refused.to_string().contains("is no uploaded file"), "{refused}");
    }
}
