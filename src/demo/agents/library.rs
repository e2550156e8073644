//! Contains the fixed reading lists of the research agent.

use schemars::JsonSchema;
use serde::Serialize;

/// A recommended book or article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct ReadingItem {
    /// The title.
    pub(crate) title: String,
    /// The author and the year of publication.
    pub(crate) source: String,
    /// A short description.
    pub(crate) note: String,
}

/// The keywords of a shelf and its books, best first.
type Shelf = (&'static [&'static str], &'static [(&'static str, &'static str, &'static str)]);

const SHELVES: &[Shelf] = &[
    (
        &["lisbon", "lisboa", "portugal"],
        &[
            (
                "The Book of Disquiet",
                "Fernando Pessoa, 1982",
                "Fragments of a clerk's inner life in the Baixa, the low town between the river and the hills.",
            ),
            (
                "The Year of the Death of Ricardo Reis",
                "José Saramago, 1984",
                "A doctor comes back to the rainy Lisbon of 1936 and takes walks with a dead poet.",
            ),
            (
                "Journey to Portugal",
                "José Saramago, 1981",
                "A traveler's account of churches, villages and people, with a long stay in Lisbon.",
            ),
            (
                "Pereira Maintains",
                "Antonio Tabucchi, 1994",
                "A newspaper editor finds his courage in the hot summer of 1938, over omelettes and lemonade.",
            ),
            (
                "Night Train to Lisbon",
                "Pascal Mercier, 2004",
                "A teacher leaves his class in Bern and follows a dead author through the city.",
            ),
        ],
    ),
    (
        &["kyoto", "japan"],
        &[
            (
                "The Old Capital",
                "Yasunari Kawabata, 1962",
                "A year of seasons and festivals in Kyoto, seen by the daughter of a kimono merchant.",
            ),
            (
                "The Temple of the Golden Pavilion",
                "Yukio Mishima, 1956",
                "The novel of the monk who burnt down Kinkaku-ji in 1950.",
            ),
            (
                "The Tale of Genji",
                "Murasaki Shikibu, about 1010",
                "The court of Heian-kyo, the Kyoto of a thousand years ago.",
            ),
        ],
    ),
    (
        &["berlin", "germany"],
        &[
            ("Berlin Alexanderplatz", "Alfred Döblin, 1929", "The city of the twenties, in the voices of its streets."),
            (
                "Goodbye to Berlin",
                "Christopher Isherwood, 1939",
                "Boarding houses and cabarets in the last years before 1933.",
            ),
            ("The Wall Jumper", "Peter Schneider, 1982", "Stories of people who crossed the Wall in both directions."),
        ],
    ),
    (
        &["istanbul", "turkey"],
        &[
            (
                "Istanbul: Memories and the City",
                "Orhan Pamuk, 2003",
                "A childhood in the melancholy of a fallen capital.",
            ),
            (
                "The Museum of Innocence",
                "Orhan Pamuk, 2008",
                "A love story through objects that a museum of the same name shows today.",
            ),
            (
                "A Mind at Peace",
                "Ahmet Hamdi Tanpınar, 1949",
                "Walks along the Bosphorus on the eve of the Second World War.",
            ),
        ],
    ),
];

/// Returns up to `limit` books on `topic`, best first. Without a matching shelf, returns a generic one.
pub(crate) fn find_books(topic: &str, limit: usize) -> Vec<ReadingItem> {
    let wanted = topic.to_lowercase();
    let shelf = SHELVES.iter().find(|(words, _)| words.iter().any(|word| wanted.contains(word)));
    match shelf {
        Some((_, books)) => books
            .iter()
            .take(limit)
            .map(|(title, source, note)| ReadingItem {
                title: (*title).to_owned(),
                source: (*source).to_owned(),
                note: (*note).to_owned(),
            })
            .collect(),
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
            find_books("Novels set in LISBON, please", 2).into_iter().map(|finding| finding.title).collect();
        assert_eq!(titles, ["The Book of Disquiet", "The Year of the Death of Ricardo Reis"]);
    }

    #[test]
    fn unknown_topics_get_a_general_item() {
        let findings = find_books("basalt", 5);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].note.starts_with("The demo library has nothing on basalt"));
    }
}
