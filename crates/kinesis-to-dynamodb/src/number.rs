//! JSON numbers as DynamoDB's: exact, or refused. DynamoDB holds 38 significant digits, from 1E-130
//! to 9.99…E+125.

use crate::item::Rejected;

/// A number's significant digits: its value is 0.`digits` × 10^`exponent`. Zero has no digits.
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

/// The text to send for a JSON number, and how many bytes of an item it takes.
pub(crate) fn exact(json: &str) -> Result<(String, usize), Rejected> {
    let number = Decimal::of(json).ok_or(Rejected::NumberRange)?;
    if number.digits.is_empty() {
        // Whatever its exponent: DynamoDB would measure `0e126` and refuse it.
        return Ok(("0".to_owned(), 1));
    }
    if number.digits.len() > 38 {
        return Err(Rejected::NumberDigits(number.digits.len()));
    }
    if !(-129..=126).contains(&number.exponent) {
        return Err(Rejected::NumberRange);
    }
    let size = number.size();
    // As written, unless that is long for its zeros.
    Ok((
        if json.len() <= 40 {
            json.to_owned()
        } else {
            number.scientific()
        },
        size,
    ))
}

impl Decimal {
    /// Reads what JSON's grammar allows. `None`: an exponent beyond all measure.
    fn of(json: &str) -> Option<Self> {
        let (negative, text) = json
            .strip_prefix('-')
            .map_or((false, json), |text| (true, text));
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let written = [whole, fraction].concat();
        let significant = written.trim_start_matches('0');
        let digits = significant.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self {
                negative: false,
                digits,
                exponent: 0,
            });
        }
        let leading_zeros = i64::try_from(written.len() - significant.len()).ok()?;
        let point = i64::try_from(whole.len()).ok()? - leading_zeros;
        Some(Self {
            negative,
            digits,
            exponent: power.parse::<i64>().ok()?.checked_add(point)?,
        })
    }

    /// One byte, one for each two digits before and after the point, one for a minus.
    fn size(&self) -> usize {
        let whole = usize::try_from(self.exponent)
            .unwrap_or(0)
            .min(self.digits.len());
        1 + whole.div_ceil(2) + (self.digits.len() - whole).div_ceil(2) + usize::from(self.negative)
    }

    fn scientific(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let (first, rest) = self.digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        format!("{sign}{first}{point}{rest}E{}", self.exponent - 1)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use dynoxide::types::{normalize_dynamo_number, number_size, validate_dynamo_number};
    use proptest::prelude::*;

    use super::*;

    /// As DynamoDB spells a number when it is read back; a zero is one whatever its exponent.
    pub(crate) fn normal(number: &str) -> String {
        let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
        if mantissa.contains(|c: char| ('1'..='9').contains(&c)) {
            normalize_dynamo_number(number)
        } else {
            "0".to_owned()
        }
    }

    #[test]
    fn numbers_keep_their_text() {
        for text in [
            "0",
            "1",
            "-1",
            "1.50",
            "1e5",
            "1E-130",
            "-9.9E+125",
            "0.1",
            "12345678901234567890123456789012345678",
        ] {
            assert_eq!(exact(text).unwrap().0, text, "{text}");
        }
    }

    #[test]
    fn zeros_are_no_digits() {
        assert_eq!(exact("-0.000e999999999999999999999").unwrap().0, "0");
        assert_eq!(exact(&format!("1{}", "0".repeat(125))).unwrap().0, "1E125");
        assert_eq!(
            exact(&format!("-0.{}12", "0".repeat(60))).unwrap().0,
            "-1.2E-61"
        );
        assert_eq!(
            exact(&format!("1.5{}", "0".repeat(300))).unwrap().0,
            "1.5E0"
        );
    }

    #[test]
    fn what_dynamodb_cannot_hold_is_refused() {
        assert_eq!(
            exact("123456789012345678901234567890123456789"),
            Err(Rejected::NumberDigits(39))
        );
        for text in [
            "1e126",
            "-1e126",
            "1e-131",
            "1e99999999999999999999",
            "1e9223372036854775807",
        ] {
            assert_eq!(exact(text), Err(Rejected::NumberRange), "{text}");
        }
    }

    proptest! {
        /// The emulator's rules were measured against DynamoDB; ours agree on value, size and
        /// refusal.
        #[test]
        fn numbers_are_exact_or_refused(json in "-?(0|[1-9][0-9]{0,45})(\\.[0-9]{1,45})?([eE][+-]?[0-9]{1,3})?") {
            match exact(&json) {
                Ok((sent, size)) => {
                    prop_assert!(validate_dynamo_number(&sent).is_ok(), "{json} → {sent}");
                    prop_assert_eq!(normal(&sent), normal(&json));
                    prop_assert_eq!(size, number_size(&json));
                }
                Err(_) => prop_assert!(validate_dynamo_number(&json).is_err(), "{json}"),
            }
        }
    }
}
