# Found instead of the real module (see /usr/lib/imgbuild/cloud-init): cloud-init then does without
# checking what Proxmox VE wrote against a schema, and is a sixth faster.
raise ImportError("left out to start faster")
