//! A server on a port of its own, for the AWS CLI: `cargo run -p embedded-kinesis --example serve
//! [ADDRESS]`.

use embedded_kinesis::{Config, EmbeddedKinesis};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a program")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    let server = EmbeddedKinesis::serve(listener, Config::default()).await?;
    let endpoint = server.endpoint();
    println!(
        "export AWS_ENDPOINT_URL={endpoint} AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any"
    );
    println!("aws kinesis create-stream --stream-name orders --shard-count 2");
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
