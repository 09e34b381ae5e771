//! `/explain` in a real browser: what it draws, not only what it is sent. Skipped where there is no
//! chromium.

use std::{fs::File, path::Path, process::Stdio};

use test_support::skip::skip;

use crate::support::world::{Application, named};
use crate::support::*;

/// What makes it quiet, and the same everywhere.
const FLAGS: [&str; 14] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--blink-settings=preferredColorScheme=1",
    "--window-size=1200,1600",
    "--virtual-time-budget=2000",
];

/// What it prints. `None`: it is not on this machine.
async fn chromium(folder: &Path, arguments: &[&str]) -> Option<String> {
    let run = tokio::process::Command::new("chromium")
        .args(FLAGS)
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .args(arguments)
        .current_dir(folder)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    match eventually("chromium", run).await {
        Ok(output) => {
            assert!(output.status.success(), "chromium: {}", output.status);
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) => {
            skip(
                "explain_browser",
                &format!("no chromium here ({error})"),
                true,
            );
            None
        }
    }
}

/// How many pixels have this colour, within what smoothing does to it.
fn pixels(png: &Path, [red, green, blue]: [u8; 3]) -> usize {
    let mut reader = png::Decoder::new(std::io::BufReader::new(File::open(png).unwrap()))
        .read_info()
        .unwrap();
    let mut image = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut image).unwrap();
    let near = |one: u8, other: u8| one.abs_diff(other) <= 2;
    let pixels = image[..info.buffer_size()].chunks_exact(info.color_type.samples());
    let same = pixels.filter(|it| near(it[0], red) && near(it[1], green) && near(it[2], blue));
    same.count()
}

#[tokio::test]
async fn a_browser_draws_it() {
    let (application, worker) = Application::resharded().await;
    let mut client = application.stack.client().await;
    // The colours of what is late would come with time.
    let more = [("lagThreshold", "10m")];
    let lag = named("shop", "billing", application.trigger("lag", &more));
    wait_for_value(&mut client, &lag, 1.0).await;
    application.explained("/explain/shop/billing", 2).await;

    let folder = tempfile::tempdir().unwrap();
    let page = format!("http://{}/explain/shop/billing", application.stack.admin);
    let Some(dom) = chromium(folder.path(), &["--dump-dom", &page]).await else {
        return;
    };
    assert!(dom.contains("<h1>shop/billing</h1>"), "{dom}");
    let headline = dom.split("class=\"headline\">").nth(1).unwrap();
    assert!(headline.starts_with("1 replica<"), "{dom}");
    assert_eq!(dom.matches("class=\"age unread\"").count(), 2, "{dom}");
    assert!(dom.contains("billing-7d9f"), "{dom}");

    // On a phone nothing but wide tables, which scroll by themselves, is wider than the screen.
    let (_, html) = http_get(application.stack.admin, "/explain/shop/billing").await;
    let html = html.replace('&', "&amp;").replace('"', "&quot;");
    let phone = format!(
        "<!DOCTYPE html><iframe width=390 height=800 srcdoc=\"{html}\"></iframe><script>
        onload = () => {{
            const page = document.querySelector('iframe').contentDocument.documentElement;
            document.title = page.scrollWidth + ' of ' + page.clientWidth;
        }};
        </script>"
    );
    let file = folder.path().join("phone.html");
    std::fs::write(&file, phone).unwrap();
    let file = format!("file://{}", file.display());
    let dom = chromium(folder.path(), &["--dump-dom", &file]).await;
    assert!(dom.unwrap().contains("<title>390 of 390</title>"));

    // The style sheet's colours, in daylight: of the bars, of the shards that wait, of a chart's
    // line.
    chromium(folder.path(), &["--screenshot=page.png", &page]).await;
    let png = folder.path().join("page.png");
    for (what, colour) in [
        ("unread", [0xc2, 0x41, 0x0c]),
        ("waits", [0x64, 0x74, 0x8b]),
        ("a line", [0x1d, 0x4e, 0xd8]),
    ] {
        let drawn = pixels(&png, colour);
        assert!(drawn > 200, "{what}: {drawn} pixels are drawn");
    }
    drop(worker);
}
