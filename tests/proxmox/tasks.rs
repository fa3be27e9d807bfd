//! Waiting for tasks.

use std::time::Duration;

use imgbuild::proxmox::{Error, Lock, Reason};

use crate::pve::{self, Fault, Spoil, When};
use crate::{BOTH, filled, machine, new_machine, vmid, wait};

#[test]
fn tasks_are_waited_for() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let guest = machine(4001);
        pve.cluster().durations.insert("qmstart".to_owned(), Duration::from_millis(700));
        let upid = client.start(&guest).unwrap();
        assert_eq!((upid.kind(), upid.id(), upid.user()), ("qmstart", "4001", pve::TOKEN));
        assert_eq!(client.running_tasks(&pve.node()).unwrap(), std::slice::from_ref(&upid));
        let mut ticks = 0;
        let tick: &mut dyn FnMut() -> Result<(), Error> = &mut || {
            ticks += 1;
            Ok(())
        };
        client.wait(&upid, Duration::from_secs(20), tick).unwrap();
        assert!(ticks > 2);
        wait(&client, client.stop(&guest).unwrap()).unwrap();
        // A tick that fails ends the waiting.
        #[derive(Debug)]
        enum Mine {
            Lost,
            Proxmox,
        }
        impl From<Error> for Mine {
            fn from(_: Error) -> Self {
                Self::Proxmox
            }
        }
        let upid = client.start(&guest).unwrap();
        let lost = client.wait(&upid, Duration::from_secs(20), &mut || Err(Mine::Lost));
        assert!(matches!(lost, Err(Mine::Lost)));
        let error =
            client.wait(&upid, Duration::from_millis(10), &mut || Ok::<_, Error>(())).unwrap_err();
        assert!(matches!(error.reason(), Reason::StillRunning { .. }), "{error}");
        assert!(error.may_have_happened());
        wait(&client, upid.clone()).unwrap();
        let unknown = upid.to_string().replace("UPID:pve1:0", "UPID:pve1:F").parse().unwrap();
        assert_eq!(*client.task_state(&unknown).unwrap_err().reason(), Reason::NotFound);
        assert!(client.task_log(&upid, 0, 10).unwrap().lines.contains(&"TASK OK".to_owned()));
    }
}

#[test]
fn warnings_and_failures_of_tasks_are_told() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let guest = machine(4001);
        let start = |spoil| {
            pve.plan(When::Next("POST", "status/start"), Fault::Task(spoil));
            wait(&client, client.start(&guest).unwrap())
        };
        let warnings = start(Spoil::Warns("Systemd 257 detected.")).unwrap();
        assert_eq!(warnings, ["WARN: Systemd 257 detected."]);
        wait(&client, client.stop(&guest).unwrap()).unwrap();
        let error = start(Spoil::Fails("start failed: QEMU exited with code 1")).unwrap_err();
        let Reason::Task { upid, log } = error.reason() else { panic!("{error}") };
        assert_eq!(upid.kind(), "qmstart");
        assert_eq!(log, &["TASK ERROR: start failed: QEMU exited with code 1"]);
        assert!(
            error.to_string().contains("the task qmstart 4001 on pve1 failed: start failed"),
            "{error}"
        );
        let error = start(Spoil::Fails("VM is locked (backup)")).unwrap_err();
        assert_eq!(*error.reason(), Reason::Locked(Lock::Config("backup".to_owned())));
        let error = start(Spoil::Killed).unwrap_err();
        assert!(error.message().contains("was killed"), "{error}");
        assert!(!client.status(&guest).unwrap().running);
        let error =
            start(Spoil::FailsAfter("got no worker upid - start worker failed")).unwrap_err();
        assert!(matches!(error.reason(), Reason::Task { .. }));
        assert!(client.status(&guest).unwrap().running);
        // A guest that could not be made is not there.
        pve.cluster().storages.get_mut("local-lvm").unwrap().total = 0;
        let upid = client.create_machine(&pve.node(), &new_machine(4009)).unwrap();
        let error = wait(&client, upid).unwrap_err();
        assert!(error.to_string().contains("not enough free space"), "{error}");
        assert!(client.is_free(vmid(4009)).unwrap());
    }
}
