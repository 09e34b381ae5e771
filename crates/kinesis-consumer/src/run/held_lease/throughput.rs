//! How many bytes a second a lease's records have, as KCL 3 measures it
//! (`LeaseStatsRecorder.java`).

use std::time::Duration;

use tokio::time::Instant;

/// What the newest measurement counts; all before it count the rest.
const NEWEST: f64 = 0.5;

#[derive(Debug)]
pub(super) struct Throughput {
    since: Instant,
    bytes: u64,
    mean: Option<f64>,
}

impl Default for Throughput {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            bytes: 0,
            mean: None,
        }
    }
}

impl Throughput {
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Bytes a second, measured over `least` or longer; before that, 0.
    pub(super) fn after(&mut self, least: Duration) -> u64 {
        let time = self.since.elapsed();
        if time >= least && !time.is_zero() {
            let newest = self.bytes as f64 / time.as_secs_f64();
            let mean = self
                .mean
                .map_or(newest, |mean| NEWEST * newest + (1.0 - NEWEST) * mean);
            *self = Self {
                mean: Some(mean),
                ..Self::default()
            };
        }
        self.mean.unwrap_or(0.0).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_newest_counts_half() {
        let second = Duration::from_secs(1);
        let mut throughput = Throughput::default();
        throughput.count(4000);
        assert_eq!(throughput.after(second), 0, "too early");
        advance(2 * second).await;
        assert_eq!(throughput.after(second), 2000);
        throughput.count(6000);
        assert_eq!(throughput.after(second), 2000);
        advance(second).await;
        assert_eq!(throughput.after(second), 4000);
        advance(second).await;
        assert_eq!(throughput.after(second), 2000);
    }
}
