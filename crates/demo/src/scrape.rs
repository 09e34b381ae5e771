//! As much of HTTP and of the Prometheus text format as it takes to look at a pod on loopback.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// GET: status and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: no chunks, and the connection ends with the body.
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .context("no HTTP status")?;
    Ok((status, body.to_owned()))
}

/// The sum of a metric over all its labels that have `label` in them; 0 where there is none.
pub(crate) fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_labels() {
        let text = "# TYPE records counter\nrecords_total{shard=\"a b\"} 3\nrecords_total{shard=\"c\"} 4\nrecords_total_x 9\nup 1\n";
        assert_eq!(sum(text, "records_total", ""), 7.0);
        assert_eq!(sum(text, "records_total", "shard=\"c\""), 4.0);
        assert_eq!(sum(text, "up", ""), 1.0);
        assert_eq!(sum(text, "records", ""), 0.0);
    }
}
