//! Money as a whole number of millionths of a US dollar, so that sums are exact in any order.

use std::fmt;
use std::ops::AddAssign;

use serde::{Serialize, Serializer};

/// An amount of money in millionths of a US dollar. It serializes as a number of US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MicroDollars(u64);

impl MicroDollars {
    /// Converts US dollars, rounded to the nearest millionth. Negative values and NaN become zero.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    pub fn from_usd(dollars: f64) -> Self {
        Self((dollars * 1_000_000.0).round() as u64)
    }

    /// Returns the amount in US dollars.
    #[expect(clippy::cast_precision_loss, reason = "exact below nine billion dollars")]
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1_000_000.0
    }

    /// Returns whether the amount is zero.
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl AddAssign for MicroDollars {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl fmt::Display for MicroDollars {
    /// Writes US dollars with six decimals, so that amounts align.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl Serialize for MicroDollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.usd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact() {
        let mut sum = MicroDollars::default();
        for _ in 0..10 {
            sum += MicroDollars::from_usd(0.1);
        }
        assert_eq!(sum, MicroDollars::from_usd(1.0));
        assert!((0..10).fold(0.0, |sum, _| sum + 0.1) < 1.0);
        let mut other = MicroDollars::from_usd(0.2);
        other += MicroDollars::from_usd(0.1);
        assert_eq!(other, MicroDollars::from_usd(0.3));
    }

    #[test]
    fn amounts_are_shown_and_serialized_in_dollars() {
        let shown = [0.0, 0.000_05, 0.004_05, 12.5].map(|dollars| MicroDollars::from_usd(dollars).to_string());
        assert_eq!(shown, ["$0.000000", "$0.000050", "$0.004050", "$12.500000"]);
        assert_eq!(serde_json::to_string(&MicroDollars::from_usd(0.004_05)).expect("JSON"), "0.00405");
        assert_eq!(serde_json::to_string(&MicroDollars::default()).expect("JSON"), "0.0");
    }

    #[test]
    fn huge_amounts_saturate() {
        let mut max = MicroDollars::from_usd(f64::MAX);
        max += MicroDollars::from_usd(1.0);
        assert_eq!(max, MicroDollars(u64::MAX));
        assert_eq!([-1.0, f64::NAN].map(MicroDollars::from_usd), [MicroDollars::default(); 2]);
    }
}
