//! Recognizes numbers that must stay text.

/// Returns whether `text` is a number with a leading zero, which parsing would drop. Such values stay text in plans,
/// parameter files, answers, and forms.
pub fn has_leading_zero(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    matches!(unsigned.as_bytes(), [b'0', b'0'..=b'9', ..]) && text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_leading_zeros() {
        for text in ["007", "-012", "+01", "00", "01.50", "01e3", "09999999999999999999999"] {
            assert!(has_leading_zero(text), "{text}");
        }
        for text in ["0", "-0", "0.5", "7", "", "-", "0x17", "00-1", "01:30", "0abc", "007 "] {
            assert!(!has_leading_zero(text), "{text}");
        }
    }
}
