#![no_main]
imgbuild_fuzz::fuzz!("guest_agent");
