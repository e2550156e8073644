//! Estimates the size of a compiled regular expression from its text, in any dialect.

/// The number of states of a class that Unicode properties define.
const STATES_PER_PROPERTY: u64 = 300;
/// The number of states of a negated class or of a class such as `\s`, which match many characters.
const STATES_PER_CLASS: u64 = 16;
/// The maximum nesting of groups; engines parse them recursively.
const MAX_GROUP_DEPTH: usize = 100;

/// Returns the approximate number of states of a compiled pattern; `u64::MAX` if its groups are nested too deeply.
pub(super) fn state_count(pattern: &str) -> u64 {
    let mut outer: Vec<u64> = Vec::new();
    let (mut sum, mut last) = (0_u64, 0_u64);
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        let atom = match c {
            '(' => {
                if outer.len() == MAX_GROUP_DEPTH {
                    return u64::MAX;
                }
                outer.push(sum);
                (sum, last) = (0, 0);
                continue;
            }
            ')' => {
                last = sum.saturating_add(1);
                sum = outer.pop().unwrap_or(0).saturating_add(last);
                continue;
            }
            '{' => match parse_repetition(rest.as_str()) {
                Some((times, length)) => {
                    sum = sum.saturating_add(last.saturating_mul(times.saturating_sub(1)));
                    last = last.saturating_mul(times.max(1));
                    rest = rest.as_str()[length..].chars();
                    continue;
                }
                None => 1,
            },
            '[' => {
                let (states, length) = parse_class(rest.as_str());
                rest = rest.as_str()[length..].chars();
                states
            }
            '\\' => match rest.next() {
                Some('p' | 'P') => STATES_PER_PROPERTY,
                Some('w' | 'W' | 'd' | 'D' | 's' | 'S') => STATES_PER_CLASS,
                _ => 1,
            },
            '.' => STATES_PER_CLASS / 2,
            c => c.len_utf8() as u64,
        };
        last = atom;
        sum = sum.saturating_add(atom);
    }
    let total = outer.into_iter().fold(sum, u64::saturating_add);
    // Case folding makes classes larger.
    if pattern.contains("(?i") { total.saturating_mul(4) } else { total }
}

/// Returns the upper bound of a repetition and the length of its text; `rest` starts after the brace.
fn parse_repetition(rest: &str) -> Option<(u64, usize)> {
    let end = rest.find('}')?;
    let (min, max) = rest[..end].split_once(',').unwrap_or((&rest[..end], ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if min.is_empty() || !is_number(min) || !is_number(max) {
        return None;
    }
    let min = min.parse().unwrap_or(u64::MAX);
    let max = if max.is_empty() { min } else { max.parse().unwrap_or(u64::MAX) };
    Some((min.max(max).saturating_add(1), end + 1))
}

/// Returns the number of states of a class and the length of its text; `rest` starts after the bracket.
fn parse_class(rest: &str) -> (u64, usize) {
    let mut states = if rest.starts_with('^') { STATES_PER_CLASS } else { 2 };
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ']' if at > 0 => return (states, at + 1),
            '\\' => match chars.next() {
                Some((_, 'p' | 'P')) => states += STATES_PER_PROPERTY,
                Some((_, 'w' | 'W' | 'd' | 'D' | 's' | 'S')) => states += STATES_PER_CLASS,
                _ => states += 1,
            },
            c => states += c.len_utf8() as u64,
        }
    }
    (states, rest.len())
}

/// Returns whether a pattern needs a backtracking engine.
pub(super) fn is_backtracking(pattern: &str) -> bool {
    let has_operator =
        ["(?=", "(?!", "(?<=", "(?<!", "(?>", "++", "*+", "?+", "\\k"].iter().any(|part| pattern.contains(part));
    has_operator || pattern.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && (b'1'..=b'9').contains(&pair[1]))
}
