//! Contains the fixed reading lists of the research agent.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A recommended book or article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReadingItem {
    /// The title.
    pub(crate) title: String,
    /// The author and the year of publication.
    pub(crate) source: String,
    /// A short description.
    pub(crate) note: String,
}

/// The keywords of a shelf and its books, best first.
#[derive(Deserialize)]
struct Shelf {
    keywords: Vec<String>,
    items: Vec<ReadingItem>,
}

static SHELVES: LazyLock<Vec<Shelf>> =
    LazyLock::new(|| serde_json::from_str(include_str!("library.json")).expect("the library is valid"));

/// Returns up to `limit` books on `topic`, best first. Without a matching shelf, returns a generic one.
pub(crate) fn find_books(topic: &str, limit: usize) -> Vec<ReadingItem> {
    let query = topic.to_lowercase();
    let shelf = SHELVES.iter().find(|shelf| shelf.keywords.iter().any(|keyword| query.contains(keyword)));
    match shelf {
        Some(shelf) => shelf.items.iter().take(limit).cloned().collect(),
        None => vec![ReadingItem {
            title: format!("How to begin with {topic}"),
            source: "kapell demo library".to_owned(),
            note: format!(
                "The demo library has nothing on {topic}: start with an encyclopedia, then follow its references."
            ),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn city_is_found_in_a_longer_topic() {
        let titles: Vec<String> =
            find_books("Novels set in LISBON, please", 2).into_iter().map(|item| item.title).collect();
        assert_eq!(titles, ["The Book of Disquiet", "The Year of the Death of Ricardo Reis"]);
    }

    #[test]
    fn unknown_topics_get_a_general_item() {
        let items = find_books("basalt", 5);
        assert_eq!(items.len(), 1);
        assert!(items[0].note.starts_with("The demo library has nothing on basalt"));
    }
}
