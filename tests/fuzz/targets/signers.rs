#![no_main]
imgbuild_fuzz::fuzz!("signers");
