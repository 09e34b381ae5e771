//! Compiles KEDA's proto without `protoc`, and writes the descriptors for gRPC reflection.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/externalscaler.proto");
    let descriptors = protox::compile(["externalscaler.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("externalscaler.bin"), descriptors.encode_to_vec())?;
    // Tests and the demo use the generated client with a channel of their own, so it needs no
    // transport feature of tonic.
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
