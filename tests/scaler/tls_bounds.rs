//! TLS against whoever has no certificate, or no longer one: what a connection may hold, who is let
//! go, and certificates that are worse than those before.

use std::{fs, net::SocketAddr};

use crate::{
    support::{Stack, eventually, http_get, scraped, wait_for_value},
    tls::{Authority, Files, authority, connect, issue, start},
};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio::net::TcpStream;

const PREFIX: &str = "keda_kinesis_scaler_";

async fn wait_for(stack: &Stack, sample: &str) {
    let line = format!("{PREFIX}{sample}\n");
    scraped(stack.admin, &line, |text| text.contains(&line)).await;
}

async fn expiry(admin: SocketAddr) -> String {
    let text = http_get(admin, "/metrics").await.1;
    let name = format!("{PREFIX}tls_certificate_expiry_timestamp_seconds ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap().to_owned()
}

/// Puts the scaler's certificate in its place: it ends at the start of a year.
fn until(files: &Files, authority: &Authority, year: i32) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["scaler".to_owned()]).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    let certificate = params.signed_by(&key, authority).unwrap();
    fs::write(files.path("tls.key"), key.serialize_pem()).unwrap();
    fs::write(files.path("tls.crt"), certificate.pem()).unwrap();
}

#[tokio::test]
async fn a_client_whose_authority_is_taken_away_is_let_go() {
    let (ours, old, new) = (authority(), authority(), authority());
    let (stack, files) = start(&ours, Some(&old)).await;
    let identity = issue(&old, "keda");
    let mut client = connect(&stack, &ours, Some(identity)).await.unwrap();
    let object = stack.object("orders", &[]);
    wait_for_value(&mut client, &object, 2.0).await;
    let states = client.stream_is_active(object.clone()).await.unwrap();
    let mut states = states.into_inner();

    fs::write(files.path("ca.crt"), new.pem()).unwrap();
    let end = async { while states.message().await.unwrap().is_some() {} };
    eventually("a clean end of the push stream", end).await;
    // The open connection goes, and another is refused.
    let refused = async { while client.get_metric_spec(object.clone()).await.is_ok() {} };
    eventually("a refusal", refused).await;
    wait_for(&stack, "limited_total{limit=\"certificate\"} 1").await;
    connect(&stack, &ours, Some(issue(&new, "keda")))
        .await
        .expect("the new authority's client");
}

#[tokio::test]
async fn a_certificate_that_has_ended_replaces_none_that_is_valid() {
    let ours = authority();
    let (stack, files) = start(&ours, None).await;
    until(&files, &ours, 2999);
    connect(&stack, &ours, None).await.unwrap();
    wait_for(&stack, "tls_last_reload_successful 1").await;
    let valid = expiry(stack.admin).await;
    assert_eq!(valid, "32472144000", "2999-01-01");

    until(&files, &ours, 2001);
    wait_for(&stack, "tls_last_reload_successful 0").await;
    connect(&stack, &ours, None).await.unwrap();
    assert_eq!(expiry(stack.admin).await, valid);

    until(&files, &ours, 2998);
    wait_for(&stack, "tls_last_reload_successful 1").await;
    assert_ne!(expiry(stack.admin).await, valid);
}

#[tokio::test]
async fn silent_connections_from_kedas_own_address_do_not_keep_keda_out() {
    let (ours, clients) = (authority(), authority());
    let (stack, _files) = start(&ours, Some(&clients)).await;
    let mut silent = Vec::new();
    // More than there are handshakes at a time.
    for _ in 0..300 {
        silent.push(TcpStream::connect(stack.address).await.unwrap());
    }
    let mut client = connect(&stack, &ours, Some(issue(&clients, "keda")))
        .await
        .unwrap();
    wait_for_value(&mut client, &stack.object("orders", &[]), 2.0).await;
    let text = http_get(stack.admin, "/metrics").await.1;
    assert!(text.contains(&format!(
        "{PREFIX}limited_total{{limit=\"connections\"}} 0\n"
    )));
}
