#![no_main]
imgbuild_fuzz::fuzz!("tracker");
