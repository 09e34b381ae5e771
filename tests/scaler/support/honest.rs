//! What an error to KEDA has to say.

use tonic::{Code, Status};

/// AWS's code, of an error that says what was asked of what, that code, and what happens next.
/// `None`: there is no answer yet, and the error says what is waited for.
///
/// # Errors
/// It says neither.
pub fn aws_code(status: &Status) -> Result<Option<String>, String> {
    let text = status.message();
    let dishonest = || Err(format!("no honest error: {status:?}"));
    let Some((about, said)) = text.split_once(" failed: ") else {
        let waits = ["ask again", "has not ended yet"];
        let is_waiting = waits.iter().any(|words| text.contains(words));
        return match is_waiting && status.code() == Code::Unavailable {
            true => Ok(None),
            false => dishonest(),
        };
    };
    let Some((code, rest)) = said.split_once(": ") else {
        return dishonest();
    };
    // The message is AWS's; the last sentence is ours.
    let next = rest.rsplit_once(". ").map_or("", |(_, next)| next);
    let names = about
        .split_once(" of ")
        .is_some_and(|(_, of)| of.contains(" in "));
    // A status that is no error, or none at all, says nothing of what went wrong.
    let is_code = !code.is_empty() && !["Http0", "Http2"].iter().any(|no| code.starts_with(no));
    match is_code && next.len() >= 20 && names {
        true => Ok(Some(code.to_owned())),
        false => dishonest(),
    }
}
