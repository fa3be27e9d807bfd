#![no_main]
imgbuild_fuzz::fuzz!("shared_layers");
