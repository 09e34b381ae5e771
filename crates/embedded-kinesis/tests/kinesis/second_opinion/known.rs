//! Where the two differ, and who is right by AWS's documents.

/// A step whose answers differ.
pub(crate) struct Difference {
    pub(crate) step: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) theirs: &'static str,
    /// Who is right, by what.
    pub(crate) verdict: &'static str,
}

pub(crate) const KNOWN: &[Difference] = &[
    Difference {
        step: "create with a bad name",
        ours: "ValidationException",
        theirs: "InvalidArgumentException",
        verdict: "ours: the API model's constraint, which AWS answers with ValidationException",
    },
    Difference {
        step: "create without shards",
        ours: "ValidationException",
        theirs: "LimitExceededException",
        verdict: "ours: the API model's constraint, which AWS answers with ValidationException",
    },
    Difference {
        step: "how that is worded",
        ours: "Stream nope under account 111122223333 not found.",
        theirs: "Stream arn arn:aws:kinesis:us-east-1:111122223333:stream/nope not found",
        verdict: "ours: AWS's text in public reports",
    },
    Difference {
        step: "put without a key",
        ours: "ValidationException",
        theirs: "InvalidArgumentException",
        verdict: "ours: the API model's constraint, which AWS answers with ValidationException",
    },
    Difference {
        step: "from another shard's number",
        ours: "InvalidArgumentException",
        theirs: "ResourceNotFoundException",
        verdict: "ours: the shard is there, the argument is wrong",
    },
    Difference {
        step: "from a made-up iterator",
        ours: "InvalidArgumentException",
        theirs: "an error without a code",
        verdict: "ours: GetRecords documents InvalidArgumentException",
    },
    Difference {
        step: "at most 0 records",
        ours: "ValidationException",
        theirs: "InvalidArgumentException",
        verdict: "ours: the API model's constraint, which AWS answers with ValidationException",
    },
    Difference {
        step: "register a bad name",
        ours: "ValidationException",
        theirs: "InvalidArgumentException",
        verdict: "ours: the API model's constraint, which AWS answers with ValidationException",
    },
    Difference {
        step: "subscribe again at once",
        ours: "ResourceInUseException",
        theirs: "[] children [] goes on true an error",
        verdict: "ours: 'you'll get a ResourceInUseException'; theirs is a stream with an error that cannot be read",
    },
    Difference {
        step: "subscribe with an unknown consumer",
        ours: "ResourceNotFoundException",
        theirs: "[] children [] goes on true an error",
        verdict: "ours: SubscribeToShard documents it as an error of the call",
    },
    Difference {
        step: "split what is closed",
        ours: "InvalidArgumentException",
        theirs: "ResourceInUseException",
        verdict: "ours: ResourceInUse is documented for streams that are not ACTIVE; this one is",
    },
    Difference {
        step: "AT_TRIM_HORIZON",
        ours: "[0, 1]",
        theirs: "[0, 1, 2, 3, 4]",
        verdict: "ours: 'all the shards that were open at TRIM_HORIZON'",
    },
    Difference {
        step: "resize beyond double",
        ours: "LimitExceededException",
        theirs: "InvalidArgumentException",
        verdict: "ours: UpdateShardCount documents doubling as one of its default limits",
    },
    Difference {
        step: "resize below half",
        ours: "LimitExceededException",
        theirs: "InvalidArgumentException",
        verdict: "ours: UpdateShardCount documents halving as one of its default limits",
    },
    Difference {
        step: "shards after three",
        ours: "[0-250 of (0-500) closed][0-250 of (0-500) closed][0-333 of (0-250 250-333) open][0-500 of () closed][0-500 of (0-250 250-500) closed][250-333 of (250-500) closed][250-500 of (0-500) closed][250-500 of (0-500) closed][333-500 of (250-500) closed][333-666 of (333-500 500-666) open][500-666 of (500-750) closed][500-750 of (500-1000) closed][500-1000 of () closed][666-750 of (500-750) closed][666-1000 of (666-750 750-1000) open][750-1000 of (500-1000) closed]",
        theirs: "[0-250 of (0-500) open][0-250 of (0-500) closed][0-500 of () closed][0-500 of (0-250 250-500) closed][250-500 of (0-500) open][250-500 of (0-500) closed][500-750 of (500-1000) closed][500-1000 of () closed][500-1000 of (500-750 750-1000) open][750-1000 of (500-1000) closed]",
        verdict: "ours: UNIFORM_SCALING means ranges of one size, by splits and merges with short-lived shards",
    },
    Difference {
        step: "subscribe to a closed shard",
        ours: r#"["p0", "p1", "m0", "m1", "m2", "m3", "m4", "m5", "m7"] children [2, 3] goes on false over"#,
        theirs: r#"["p0", "p1", "m0", "m1", "m2", "m3", "m4", "m5", "m7"] children [] goes on true open"#,
        verdict: "ours: ChildShards are 'returned only at the end of the current shard', which ends the subscription",
    },
    Difference {
        step: "resize ON_DEMAND",
        ours: "ValidationException",
        theirs: "Some(4) to Some(5)",
        verdict: "ours: 'only supported for the data streams with the provisioned capacity mode'",
    },
];
