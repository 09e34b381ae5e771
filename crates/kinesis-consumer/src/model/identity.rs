//! Whose a position is: what a lease remembers of the stream that it is of.

use crate::model::shard::{Shard, hash_key};

/// So much of the stream's name is readable in an identity.
const READABLE: usize = 20;

/// The stream that a worker reads, as its leases name it: the name's beginning, and a digest of
/// region and name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StreamName(String);

impl StreamName {
    /// The stream of that name or ARN. `region`: the client's, where the ARN names none.
    pub(crate) fn new(stream: &str, region: Option<&str>) -> Self {
        let name = stream.rsplit('/').next().unwrap_or(stream);
        let of_arn = stream
            .strip_prefix("arn:")
            .and_then(|arn| arn.split(':').nth(2));
        let region = of_arn.or(region).unwrap_or_default();
        let readable: String = name.chars().take(READABLE).collect();
        Self(format!(
            "{readable}/{}",
            digest(&format!("{region}/{name}"), 8)
        ))
    }

    /// What the lease of a shard remembers: at most 42 bytes. A stream that is made anew under its
    /// old name has shards of the same ids that start elsewhere.
    pub(crate) fn identity(&self, shard: &Shard) -> String {
        let start = digest(shard.starting_sequence_number.as_str(), 12);
        format!("{}/{start}", self.0)
    }

    /// Is a lease with that identity of a shard of this stream, or of an older one of its name?
    pub(crate) fn has(&self, identity: &str) -> bool {
        identity
            .rsplit_once('/')
            .is_some_and(|(name, _)| name == self.0)
    }
}

/// The name's beginning, for people.
pub(crate) fn readable(identity: &str) -> &str {
    identity.split('/').next().unwrap_or(identity)
}

fn digest(text: &str, digits: usize) -> String {
    let mut hex = format!("{:032x}", hash_key(text));
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(start: &str) -> Shard {
        Shard {
            id: "shardId-000000000000".into(),
            parents: [].into(),
            hash_range: (0..=1).into(),
            starting_sequence_number: start.parse().expect("digits"),
            closed: false,
        }
    }

    #[test]
    fn an_identity_is_small_and_tells_regions_names_and_incarnations_apart() {
        let long = "a".repeat(128);
        let stream = StreamName::new(&long, Some("eu-west-1"));
        let identity = stream.identity(&shard("100"));
        assert!(identity.len() + "nativeStream".len() < 64, "{identity}");
        assert!(stream.has(&identity));
        assert_eq!(readable(&identity), "a".repeat(20));
        assert!(!StreamName::new(&long, Some("eu-west-2")).has(&identity));
        assert!(!StreamName::new(&long[1..], Some("eu-west-1")).has(&identity));
        assert!(stream.has(&stream.identity(&shard("101"))));
        assert_ne!(stream.identity(&shard("101")), identity);
    }

    #[test]
    fn name_and_arn_are_one_stream() {
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders";
        let by_name = StreamName::new("orders", Some("eu-west-1"));
        assert_eq!(StreamName::new(arn, None), by_name);
        assert_eq!(
            StreamName::new(arn, Some("us-east-1")),
            by_name,
            "the ARN's region is right"
        );
    }
}
