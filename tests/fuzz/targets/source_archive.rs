#![no_main]
imgbuild_fuzz::fuzz!("source_archive");
