//! Ranks documents for queries.

use std::cmp::Reverse;
use std::collections::HashMap;

/// A document to search.
pub(super) struct SearchDocument<'d> {
    /// The group that it belongs to.
    pub(super) group: &'d str,
    /// Its terms, more than once if they count more.
    pub(super) words: Vec<String>,
}

/// The part of the best score in a group that each of its documents gets. A step often needs several tools of one agent,
/// such as those of a browser, and its words match only one of them.
const GROUP_SHARE: f64 = 0.5;

/// A ranker of documents with Okapi BM25 and the usual k1 = 1.2 and b = 0.75 (Robertson and Zaragoza, "The Probabilistic
/// Relevance Framework: BM25 and Beyond", 2009). The +1 in the logarithm keeps a frequent word from counting against a
/// document.
pub(super) struct Ranker<'d> {
    documents: Vec<SearchDocument<'d>>,
    /// The number of occurrences of each term in each document.
    counts: Vec<HashMap<String, f64>>,
    /// The number of documents with each term.
    frequencies: HashMap<String, f64>,
    average_length: f64,
}

impl<'d> Ranker<'d> {
    pub(super) fn new(documents: Vec<SearchDocument<'d>>) -> Self {
        let counts: Vec<HashMap<String, f64>> = documents.iter().map(|document| term_counts(&document.words)).collect();
        let mut frequencies = HashMap::new();
        for term in counts.iter().flat_map(HashMap::keys) {
            *frequencies.entry(term.clone()).or_insert(0.0) += 1.0;
        }
        let total = documents.iter().map(|document| document.words.len()).sum::<usize>();
        let average_length = (total as f64 / documents.len().max(1) as f64).max(1.0);
        Self { documents, counts, frequencies, average_length }
    }

    /// Returns the documents that match the terms or belong to a group with a match, best first.
    pub(super) fn rank(&self, terms: Vec<String>) -> Vec<usize> {
        let scores = self.scores(&terms);
        let mut best: HashMap<&str, f64> = HashMap::new();
        for (document, score) in self.documents.iter().zip(&scores) {
            let group = best.entry(document.group).or_insert(0.0);
            *group = group.max(*score);
        }
        let total = |index: usize| scores[index] + GROUP_SHARE * best[self.documents[index].group];
        let mut ranking: Vec<usize> = (0..scores.len()).filter(|index| total(*index) > 0.0).collect();
        // A stable sort prefers the first of equal documents.
        ranking
            .sort_by(|a, b| Reverse(total(*a)).partial_cmp(&Reverse(total(*b))).unwrap_or(std::cmp::Ordering::Equal));
        ranking
    }

    fn scores(&self, terms: &[String]) -> Vec<f64> {
        const K1: f64 = 1.2;
        const B: f64 = 0.75;
        let number = self.documents.len() as f64;
        let weights = terms.iter().filter_map(|term| {
            let containing = self.frequencies.get(term)?;
            Some((term, (1.0 + (number - containing + 0.5) / (containing + 0.5)).ln()))
        });
        let weights: Vec<(&String, f64)> = weights.collect();
        let score = |(counts, document): (&HashMap<String, f64>, &SearchDocument<'_>)| {
            let length = K1 * (1.0 - B + B * document.words.len() as f64 / self.average_length);
            let term_score = |(term, weight): &(&String, f64)| {
                counts.get(*term).map_or(0.0, |count| weight * count * (K1 + 1.0) / (count + length))
            };
            weights.iter().map(term_score).sum()
        };
        self.counts.iter().zip(&self.documents).map(score).collect()
    }
}

fn term_counts(words: &[String]) -> HashMap<String, f64> {
    let mut counts = HashMap::new();
    for word in words {
        *counts.entry(word.clone()).or_insert(0.0) += 1.0;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn rare_terms_and_short_documents_score_higher() {
        let documents = ["find a page", "find a book", "find a book in a very long list of all things", "sleep"];
        let groups = ["a", "b", "c", "d"];
        let documents = documents.iter().zip(groups).map(|(text, group)| SearchDocument { group, words: words(text) });
        let ranker = Ranker::new(documents.collect());
        assert_eq!(ranker.rank(words("find book")), [1, 2, 0]);
    }

    #[test]
    fn documents_of_a_matching_group_come_before_weak_matches() {
        let documents =
            [("web", "click page"), ("web", "fill field"), ("files", "write a page of a long file to disk")];
        let documents = documents.map(|(group, text)| SearchDocument { group, words: words(text) });
        assert_eq!(Ranker::new(documents.into()).rank(words("click page")), [0, 1, 2]);
        let documents = [("web", "click page"), ("web", "fill field"), ("files", "write file")];
        let documents = documents.map(|(group, text)| SearchDocument { group, words: words(text) });
        assert_eq!(Ranker::new(documents.into()).rank(words("click page")), [0, 1]);
    }
}
