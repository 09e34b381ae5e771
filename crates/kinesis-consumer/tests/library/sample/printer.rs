use kinesis_consumer::{Config, InitialPosition, Worker, each_batch};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "laptop".to_owned());
    let mut config = Config::new("orders", "billing", name);
    config.initial_position = InitialPosition::TrimHorizon;
    let print = each_batch(|batch, _| async move {
        for record in &batch.records {
            let data = String::from_utf8_lossy(&record.data);
            println!("{}: {data}", record.partition_key);
        }
        Ok(())
    });
    let ctrl_c = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    Worker::from_env(config, print).await.run(ctrl_c).await?;
    println!("all leases are given up");
    Ok(())
}
