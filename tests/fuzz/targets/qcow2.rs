#![no_main]
imgbuild_fuzz::fuzz!("qcow2");
