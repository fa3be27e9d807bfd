# Found instead of the real module (see /usr/lib/imgbuild/cloud-init): cloud-init then does without
# checking what Proxmox VE wrote against a schema, which takes a third of its time.
raise ImportError("left out to start faster")
