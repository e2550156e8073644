//! Parses the references of a reply to results of tasks, such as `$1.items[0].title`, `$item.name`, and `$find`.

/// A reference to a result, or to a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskReference<'t> {
    /// What the path starts at.
    pub(super) start: ReferenceStart<'t>,
    /// The path to the part.
    pub(super) path: Vec<Step>,
}

/// What a reference starts at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReferenceStart<'t> {
    /// The task with this number.
    Number(usize),
    /// A name: `item`, `inputs`, or the ID of a task.
    Name(&'t str),
}

/// A step into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A member of an object.
    Key(String),
    /// An element of a list.
    Index(usize),
    /// All elements of a list.
    All,
}

/// The maximum number of digits of a task's number.
const MAX_NUMBER_DIGITS: usize = 4;

impl<'t> TaskReference<'t> {
    /// Parses the reference that a text starts with. Returns the number of its bytes too.
    ///
    /// `$1.50` is not a reference but a price, and the period of a sentence does not belong to one.
    pub(super) fn parse_prefix(text: &'t str) -> Option<(Self, usize)> {
        let after = text.strip_prefix('$')?;
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let (start, length) = if (1..=MAX_NUMBER_DIGITS).contains(&digits) && !after.starts_with('0') {
            (ReferenceStart::Number(after[..digits].parse().ok()?), digits)
        } else {
            let length = word_length(after);
            let name = &after[..length];
            if length == 0 || name.starts_with(|first: char| first.is_ascii_digit()) {
                return None;
            }
            (ReferenceStart::Name(name), length)
        };
        if matches!(start, ReferenceStart::Number(_)) && is_decimal(&after[length..]) {
            return None;
        }
        let mut path = Vec::new();
        let mut rest = &after[length..];
        while let Some((step, length)) = parse_step(rest) {
            path.push(step);
            rest = &rest[length..];
        }
        Some((Self { start, path }, text.len() - rest.len()))
    }

    /// Parses a text that consists of one reference.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        let text = text.trim();
        let (reference, length) = Self::parse_prefix(text)?;
        (length == text.len()).then_some(reference)
    }
}

/// Returns the length of the word that a text starts with. A hyphen belongs to it only inside.
fn word_length(text: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    text[..end].trim_end_matches('-').len()
}

/// Returns whether a text continues a number, as in `$1.50`.
fn is_decimal(text: &str) -> bool {
    text.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Parses the step that a text starts with.
fn parse_step(text: &str) -> Option<(Step, usize)> {
    if let Some(rest) = text.strip_prefix('.') {
        let length = word_length(rest);
        let word = &rest[..length];
        let step = word.parse().map_or_else(|_| Step::Key(word.to_owned()), Step::Index);
        return (length > 0).then_some((step, length + 1));
    }
    let inside = text.strip_prefix('[')?;
    for quote in ['\'', '"'] {
        if let Some(rest) = inside.strip_prefix(quote) {
            let end = rest.find(quote)?;
            let closed = rest[end + 1..].starts_with(']');
            return closed.then(|| (Step::Key(rest[..end].to_owned()), end + 4));
        }
    }
    let end = inside.find(']')?;
    let step = match &inside[..end] {
        "*" | "" => Step::All,
        index => Step::Index(index.parse().ok()?),
    };
    Some((step, end + 2))
}

/// Returns the expression for the part of `base` at a path.
pub(super) fn path_expression(base: &str, path: &[Step]) -> String {
    let plain = path.iter().take_while(|step| **step != Step::All).count();
    let mut expression = base.to_owned();
    for step in &path[..plain] {
        match step {
            Step::Index(index) => expression.push_str(&format!("[{index}]")),
            Step::Key(key) if is_plain_key(key) => expression.push_str(&format!(".{key}")),
            Step::Key(key) => expression.push_str(&format!("['{}']", escape(key))),
            Step::All => {}
        }
    }
    let attribute = path[plain..].iter().filter_map(|step| match step {
        Step::Key(key) => Some(key.clone()),
        Step::Index(index) => Some(index.to_string()),
        Step::All => None,
    });
    let attribute = attribute.collect::<Vec<_>>().join(".");
    match attribute.as_str() {
        "" => expression,
        attribute => format!("{expression} | map(attribute='{}') | list", escape(attribute)),
    }
}

fn is_plain_key(key: &str) -> bool {
    let is_word = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word && !key.is_empty() && !key.starts_with(|first: char| first.is_ascii_digit())
}

/// Escapes a text for single quotation marks of an expression.
fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace('\'', r"\'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Expression;

    fn parsed(text: &str) -> Option<(ReferenceStart<'_>, String)> {
        let reference = TaskReference::parse(text)?;
        Some((reference.start, path_expression("x", &reference.path)))
    }

    #[test]
    fn paths_become_expressions() {
        for (text, start, expression) in [
            ("$1", ReferenceStart::Number(1), "x"),
            (" $12.a.b_c ", ReferenceStart::Number(12), "x.a.b_c"),
            ("$1.items[0].web-page", ReferenceStart::Number(1), "x.items[0]['web-page']"),
            ("$1.items.0.title", ReferenceStart::Number(1), "x.items[0].title"),
            ("$1[0]", ReferenceStart::Number(1), "x[0]"),
            ("$1['it s'][\"a]\"]", ReferenceStart::Number(1), "x['it s']['a]']"),
            ("$1.items[*].title.text", ReferenceStart::Number(1), "x.items | map(attribute='title.text') | list"),
            ("$1.items[*]", ReferenceStart::Number(1), "x.items"),
            ("$item", ReferenceStart::Name("item"), "x"),
            ("$item.größe", ReferenceStart::Name("item"), "x['größe']"),
            ("$find-it.summary", ReferenceStart::Name("find-it"), "x.summary"),
        ] {
            assert_eq!(parsed(text), Some((start, expression.to_owned())), "{text}");
            crate::expression::references(&Expression(format!("inputs.{expression}"))).expect(expression);
        }
    }

    #[test]
    fn other_texts_are_not_references() {
        for text in
            ["", "$", "1", "$1.50", "$0", "$12345", "$1.", "$1 a", "a $1", "$-", "$1[", "$1[a]", "$1['a'", "$5,000"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
        let (reference, length) = TaskReference::parse_prefix("$1.summary. And more").expect("a reference");
        assert_eq!((reference.path, length), (vec![Step::Key("summary".to_owned())], "$1.summary".len()));
    }
}
