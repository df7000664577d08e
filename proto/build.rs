//! Makes the code of the wire contract. `protox` compiles the .proto files, so that nobody has to install protoc.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=sluice");
    let descriptors = protox::compile(["sluice/v1/job_service.proto"], ["."])?;
    // For reflection: with the comments, which tools show.
    let path = PathBuf::from(env::var("OUT_DIR")?).join("sluice_descriptors.bin");
    fs::write(path, descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Bodies are cut out of the message that holds them, without a copy.
        .bytes(".sluice.v1")
        // Tags in key order, as everywhere.
        .btree_map(".sluice.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
