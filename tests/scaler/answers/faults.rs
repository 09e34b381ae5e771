//! What goes wrong with a call, by the names that the table has.

use std::time::Duration;

use embedded_kinesis::Fault;

#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: &'static str,
    pub(super) fault: Fault,
    /// It ends by the time-out of the call.
    pub(super) is_silent: bool,
}

/// All that is done to this operation.
pub(super) fn faults(operation: &str) -> Vec<Named> {
    let mut all = vec![
        ("throttled", throttled(operation)),
        ("denied", Fault::access_denied()),
        ("not there", Fault::not_found()),
        ("session expired", Fault::expired_token()),
        ("key unknown", key_unknown()),
        ("500", Fault::internal_error()),
        ("503 without a code", Fault::Status(503)),
        ("no answer", Fault::Hang),
        ("answer too slow", Fault::Slow(20)),
        ("answer too late", Fault::Delay(Duration::from_secs(60))),
        ("reset before the call", Fault::Reset),
        ("reset after the call", Fault::LoseAnswer),
        ("half an answer", Fault::HalfBody),
        ("garbage", Fault::Garbage),
        ("`{}`", Fault::EmptyJson),
        ("clock an hour behind", Fault::WrongDate(-3_600)),
    ];
    match operation {
        "GetRecords" => all.extend([
            ("KMS key denied", kms("KMSAccessDeniedException")),
            ("KMS key disabled", kms("KMSDisabledException")),
            ("KMS throttled", kms("KMSThrottlingException")),
            ("iterator expired", Fault::expired_iterator()),
        ]),
        // Roles that are not there are denied. A table that is not is an application that has not
        // started, which is no failure.
        "AssumeRole" | "Scan" => all.retain(|(name, _)| *name != "not there"),
        _ => {}
    }
    let all = all.into_iter();
    all.map(|(name, fault)| Named {
        name,
        is_silent: matches!(fault, Fault::Hang | Fault::Slow(_) | Fault::Delay(_)),
        fault,
    })
    .collect()
}

fn throttled(operation: &str) -> Fault {
    match operation {
        "AssumeRole" => Fault::aws("Throttling", "Rate exceeded"),
        _ => Fault::throttling_of(operation),
    }
}

fn key_unknown() -> Fault {
    Fault::aws(
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )
}

fn kms(code: &str) -> Fault {
    Fault::aws(code, "The ciphertext refers to a key that cannot be used.")
}
