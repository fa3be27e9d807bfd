#![no_main]
imgbuild_fuzz::fuzz!("oci_documents");
