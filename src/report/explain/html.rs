//! What every page has: head, style, and how numbers are written. `maud` escapes all text.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use url::Url;

/// No script, no foreign content, no frame around the page: names in it come from whoever can reach
/// the gRPC port.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("style.css");

/// Seconds between two loads of a page by itself.
const REFRESH: u32 = 15;

pub(super) fn document(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content=(REFRESH);
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
    .into_string()
}

/// The address of a ScaledObject's page. `None`: the name cannot stand in a URL's path.
pub(super) fn link(namespace: &str, name: &str) -> Option<String> {
    let mut url = Url::parse("http://scaler/explain").ok()?;
    url.path_segments_mut().ok()?.push(namespace).push(name);
    let whole = url.path_segments()?.count() == 3 && !namespace.is_empty() && !name.is_empty();
    whole.then(|| url.path().to_owned())
}

/// `3 replicas`, `1 replica`.
pub(super) fn count(number: i64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}
