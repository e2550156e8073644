//! Splits texts and names into search terms: lowercase stems without words that say nothing.

/// Words that say nothing about a tool.
const STOP_WORDS: &str = " a an the of to in on for and or with by from at as is are be it this that these those into its \
your you my me please using use will can which their his her them then than such each any all so also via per if when \
what where who how ";

/// The endings that are removed from English words, each with what replaces it. The first that fits is removed.
const ENDINGS: [(&str, &str); 15] = [
    ("ies", "y"),
    ("sses", "ss"),
    ("ations", "at"),
    ("ation", "at"),
    ("ions", ""),
    ("ion", ""),
    ("ments", ""),
    ("ment", ""),
    ("ings", ""),
    ("ing", ""),
    ("ers", ""),
    ("er", ""),
    ("ed", ""),
    ("es", ""),
    ("s", ""),
];
/// The minimum length of a stem.
const MIN_STEM_CHARS: usize = 3;

/// Words of goals, and the words that tools use for the same.
const SYNONYMS: [(&str, &[&str]); 22] = [
    ("save", &["write"]),
    ("store", &["write"]),
    ("fetch", &["get"]),
    ("retrieve", &["get"]),
    ("gather", &["get", "search"]),
    ("collect", &["get", "search"]),
    ("find", &["search"]),
    ("look", &["search"]),
    ("open", &["read"]),
    ("read", &["open"]),
    ("latest", &["trending"]),
    ("news", &["trending"]),
    ("trends", &["ranking"]),
    ("web", &["page"]),
    ("website", &["page", "browser"]),
    ("browse", &["navigate"]),
    ("markdown", &["file"]),
    ("report", &["file"]),
    ("picture", &["image"]),
    ("wiki", &["wikipedia"]),
    ("slides", &["presentation"]),
    ("spreadsheet", &["workbook", "sheet"]),
];

/// Splits a text or a name into lowercase words: `searchWeb`, `search_web`, and `Search web` have the same words.
pub(super) fn tokenize(text: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::with_capacity(text.len());
    let mut after_small = false;
    for c in text.chars() {
        if after_small && c.is_uppercase() {
            spaced.push(' ');
        }
        after_small = c.is_lowercase();
        if c.is_alphanumeric() { spaced.extend(c.to_lowercase()) } else { spaced.push(' ') }
    }
    spaced.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Returns the search terms of a text.
pub(super) fn terms(text: &str) -> impl Iterator<Item = String> {
    let says_something = |word: &String| !STOP_WORDS.contains(&format!(" {word} "));
    tokenize(text).filter(says_something).map(|word| stem(&word))
}

/// Returns the search terms of a query, with those of synonyms.
pub(super) fn query(text: &str) -> Vec<String> {
    let mut found: Vec<String> = terms(text).collect();
    let synonyms = SYNONYMS.iter().filter(|(word, _)| found.contains(&stem(word)));
    let more: Vec<String> = synonyms.flat_map(|(_, same)| same.iter().map(|word| stem(word))).collect();
    found.extend(more);
    found.sort_unstable();
    found.dedup();
    found
}

/// Returns the stem of a word: the forms of most English words share it. Other words stay recognizable.
///
/// A light stemmer suffices, since descriptions of tools use few forms, and goals in other languages are searched for by
/// steps that the model writes in English.
fn stem(word: &str) -> String {
    if !word.is_ascii() || word.len() <= MIN_STEM_CHARS {
        return word.to_owned();
    }
    let ending = ENDINGS.iter().find(|(ending, with)| {
        let fits = word.ends_with(ending) && word.len() - ending.len() + with.len() >= MIN_STEM_CHARS;
        fits && !(*ending == "s" && word.ends_with("ss"))
    });
    let mut stem = match ending {
        Some((ending, with)) => format!("{}{with}", &word[..word.len() - ending.len()]),
        None => word.to_owned(),
    };
    if stem.len() > MIN_STEM_CHARS && stem.ends_with('e') {
        stem.pop();
    }
    let bytes = stem.as_bytes();
    if let [.., last, end] = bytes
        && last == end
        && stem.len() > MIN_STEM_CHARS
        && !b"aeiouls".contains(end)
    {
        stem.pop();
    }
    if stem.len() > MIN_STEM_CHARS && stem.ends_with('y') {
        stem.pop();
        stem.push('i');
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenizes_all_naming_styles_alike() {
        for text in ["search_web", "searchWeb", "Search web", "search-web!"] {
            assert_eq!(tokenize(text).collect::<Vec<_>>(), ["search", "web"], "{text}");
        }
        assert_eq!(tokenize("¿Überraschung?").collect::<Vec<_>>(), ["überraschung"]);
    }

    #[test]
    fn forms_of_a_word_share_their_stem() {
        for forms in [
            &["translate", "translates", "translated", "translating", "translation", "translations"][..],
            &["currency", "currencies"],
            &["convert", "converts", "converting", "converted", "converter"],
            &["plan", "plans", "planning", "planned", "planner"],
            &["process", "processes", "processing"],
            &["book", "books", "booking", "bookings"],
        ] {
            let stems: Vec<String> = forms.iter().map(|form| stem(form)).collect();
            assert!(stems.iter().all(|stem| *stem == stems[0]), "{stems:?}");
        }
        assert_eq!([stem("gas"), stem("überraschungen"), stem("glass")], ["gas", "überraschungen", "glass"]);
    }

    #[test]
    fn queries_have_synonyms_and_no_stop_words() {
        assert_eq!(query("Save it to the wiki"), ["sav", "wiki", "wikipedia", "writ"]);
        assert_eq!(terms("What is the hour?").collect::<Vec<_>>(), ["hour"]);
    }
}
