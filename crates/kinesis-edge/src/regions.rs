//! What a region's name tells.

/// Does this look like a region: `eu-west-1`, `us-gov-east-1`, `us-isob-east-1`? New ones need no
/// new version.
pub fn is_region(text: &str) -> bool {
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    match text.split('-').collect::<Vec<_>>().as_slice() {
        [first, middle @ .., number] => {
            text.len() <= 32
                && first.len() >= 2
                && is_word(first)
                && !middle.is_empty()
                && middle.iter().all(is_word)
                && (1..=2).contains(&number.len())
                && number.bytes().all(|b| b.is_ascii_digit())
        }
        _ => false,
    }
}

/// The partition that ARNs of a region start with, after `arn:`.
pub fn partition(region: &str) -> &'static str {
    const PARTITIONS: [(&str, &str); 7] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
        ("eusc-", "aws-eusc"),
    ];
    let mut partitions = PARTITIONS.iter();
    let found = partitions.find(|(start, _)| region.starts_with(start));
    found.map_or("aws", |(_, partition)| partition)
}
