//! Sequence numbers in the layout AWS uses today: 186 bits, written as 56 decimal digits.
//!
//! From the top, in hex digits: version `2`, second of the shard's creation (9), shard (1), number
//! in the shard (16), zeros (2), second of the record (9), shard (8), version `2`. A child is
//! created at least a second (of this field) after its parents, so all its numbers are greater than
//! theirs.

use std::fmt;

/// Digits of every number of this layout.
const DIGITS: usize = 56;

/// The greatest number in a shard: what a closed shard ends with.
pub(crate) const END: u64 = i64::MAX as u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// Second the shard counts as created in.
    pub(crate) created: u64,
    pub(crate) shard: u32,
    /// 0 is where the shard starts; records begin with 1.
    pub(crate) index: u64,
    /// Second the record was written in.
    pub(crate) second: u64,
}

/// 192 bits, most significant first.
type Limbs = [u64; 3];

impl Sequence {
    fn limbs(self) -> Limbs {
        let second = self.second & 0xf_ffff_ffff;
        // 60 bits of the top limb: version, creation, shard's last hex digit, top 2 digits of
        // index.
        let top = (2 << 56)
            | ((self.created & 0xf_ffff_ffff) << 20)
            | (u64::from(self.shard & 0xf) << 16);
        let top = top | (self.index >> 48);
        let middle = (self.index << 16) | (second >> 28);
        let low = (second << 36) | (u64::from(self.shard) << 4) | 2;
        [top, middle, low]
    }

    fn of_limbs([top, middle, low]: Limbs) -> Option<Self> {
        let found = Self {
            created: (top >> 20) & 0xf_ffff_ffff,
            shard: (low >> 4) as u32,
            index: ((top & 0xffff) << 48) | (middle >> 16),
            second: ((middle & 0xff) << 28) | (low >> 36),
        };
        (found.limbs() == [top, middle, low]).then_some(found)
    }

    /// The number as text.
    pub(crate) fn digits(self) -> Digits {
        const CHUNK: u128 = 10_u128.pow(19);
        let mut limbs = self.limbs();
        let mut text = [b'0'; DIGITS];
        let mut at = DIGITS;
        while at > 0 {
            let mut rest = 0_u128;
            for limb in &mut limbs {
                let value = (rest << 64) | u128::from(*limb);
                *limb = (value / CHUNK) as u64;
                rest = value % CHUNK;
            }
            let mut rest = rest as u64;
            for _ in 0..19.min(at) {
                at -= 1;
                text[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        Digits(text)
    }

    /// Reads a number of this layout; `None` for any other text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != DIGITS {
            return None;
        }
        let mut limbs: Limbs = [0; 3];
        for digit in text.bytes() {
            let mut carry = u128::from(digit.checked_sub(b'0').filter(|it| *it <= 9)?);
            for limb in limbs.iter_mut().rev() {
                let value = u128::from(*limb) * 10 + carry;
                *limb = value as u64;
                carry = value >> 64;
            }
        }
        Self::of_limbs(limbs)
    }
}

/// A sequence number as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digits([u8; DIGITS]);

impl Digits {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A number of AWS's own.
    #[test]
    fn the_layout_is_that_of_aws() {
        let text = "49680483476475808707584783019624565094204474651800764418";
        let sequence = Sequence::parse(text).unwrap();
        let wanted = Sequence {
            created: 0x6b03_e365,
            shard: 0,
            index: 0xb1c,
            second: 0x6b03_e4b8,
        };
        assert_eq!(sequence, wanted);
        assert_eq!(sequence.digits().as_str(), text);
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "0",
            "LATEST",
            "4968048347647580870758478301962456509420447465180076441",
            "49680483476475808707584783019624565094204474651800764419",
            "49680483476475808707584783019624565094204474651800764418 ",
            "x9680483476475808707584783019624565094204474651800764418",
            "99999999999999999999999999999999999999999999999999999999",
        ] {
            assert_eq!(Sequence::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(created in 0_u64..1 << 36, shard: u32, index in 0..=END, second in 0_u64..1 << 36) {
            let sequence = Sequence { created, shard, index, second };
            prop_assert_eq!(Sequence::parse(sequence.digits().as_str()), Some(sequence));
        }

        #[test]
        fn later_in_a_shard_is_greater(created in 0_u64..1 << 36, shard: u32, index in 0..END, second in 0_u64..1 << 36) {
            let earlier = Sequence { created, shard, index, second };
            let later = Sequence { index: index + 1, second: 0, ..earlier };
            prop_assert!(earlier.digits().as_str() < later.digits().as_str());
            let child = Sequence { created: created + 1, index: 0, ..earlier };
            if created + 1 < 1 << 36 {
                prop_assert!(later.digits().as_str() < child.digits().as_str());
            }
        }
    }
}
