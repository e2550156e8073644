//! Reads request IDs, which some servers change from numbers to strings.

use rmcp::model::{NumberOrString, RequestId};

/// Returns the number of an ID. Some servers return numbers as strings.
pub(crate) fn id_number(id: &RequestId) -> Option<i64> {
    match id {
        NumberOrString::Number(number) => Some(*number),
        NumberOrString::String(text) => text.parse().ok(),
    }
}
