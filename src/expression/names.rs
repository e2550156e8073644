//! Suggests and lists names in errors.

use crate::model::text::truncate_chars;

/// The maximum number of names in an error.
const MAX_LISTED_NAMES: usize = 8;

/// Returns the name closest to `target`, if at most a third of it differs.
pub(crate) fn closest_match<'n>(target: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let length = target.chars().count();
    names
        .into_iter()
        .filter_map(|name| {
            let other = name.chars().count();
            let allowed = length.max(other) / 3;
            // The difference in length is a lower bound of the distance, and far cheaper.
            let distance = (length.abs_diff(other) <= allowed).then(|| strsim::damerau_levenshtein(target, name))?;
            (distance <= allowed).then_some((distance, name))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// Returns `did you mean …?`, if one of `names` is similar to `unknown`.
pub(crate) fn did_you_mean<'n>(unknown: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    closest_match(unknown, names).map(|close| format!("did you mean `{close}`?"))
}

/// Formats names for people: the first few, in backticks. They may come from an agent, so long names are truncated.
pub(super) fn format_names<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const MAX_NAME_CHARS: usize = 40;
    let mut names = names.into_iter();
    let mut shown: Vec<String> = names
        .by_ref()
        .take(MAX_LISTED_NAMES)
        .map(|name| format!("`{}`", truncate_chars(name, MAX_NAME_CHARS).replace(char::is_control, "\u{fffd}")))
        .collect();
    match names.count() {
        0 => {}
        more => shown.push(format!("{more} more")),
    }
    shown.join(", ")
}

/// Returns `prefix` and the formatted names, or `empty` if there are none.
pub(crate) fn list_names<'n>(names: impl Iterator<Item = &'n str> + Clone, (prefix, empty): (&str, &str)) -> String {
    match names.clone().next() {
        Some(_) => format!("{prefix} {}", format_names(names)),
        None => empty.to_owned(),
    }
}
