//! Waiting for events, never for a time.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// When a test gives up. What it waits for is an event; nothing takes so long unless it never
/// comes, on a machine that does much else, too.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Waits for `event`; panics with `what` when patience ends.
pub async fn eventually<T>(what: &str, event: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Asks again and again until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    eventually(what, asked).await
}
