# The volume. Everywhere else, what is written is gone at the next start, or cannot be written at all.
export IMGBUILD_STORE=/srv/imgbuild/store
