//! Finds the paths of an expression, and every other name in it, without building a tree.
//! Never looks at a value.

use std::{borrow::Cow, ops::Range};

use smallvec::SmallVec;

use super::ExpressionError;

/// Longest expression, in bytes: far more than a person writes, far less than deep trees need.
const MAX_LENGTH: usize = 16 * 1024;
/// Most names, numbers, texts and signs of an expression. Bounds how deep its tree can be, and so the stack.
const MAX_TOKENS: usize = 1_000;

/// What a scan found.
pub(super) struct Scanned<'e> {
    /// The expression.
    pub(super) text: &'e str,
    /// Its paths, in order.
    pub(super) paths: SmallVec<[Path<'e>; 1]>,
    /// Its filters, tests and functions, in order.
    pub(super) calls: Vec<Call<'e>>,
}

impl<'e> Scanned<'e> {
    /// The path that is the whole expression, if it is one.
    pub(super) fn whole_path(&self) -> Option<&Path<'e>> {
        match self.paths.as_slice() {
            [path] if self.text.trim().len() == path.range.len() => Some(path),
            _ => None,
        }
    }
}

/// A name and the literal keys and indices that follow it.
pub(super) struct Path<'e> {
    /// The name.
    pub(super) root: &'e str,
    /// What follows it.
    pub(super) segments: SmallVec<[Segment<'e>; 3]>,
    /// Where it stands.
    pub(super) range: Range<usize>,
    /// Whether `default` or `is defined` follows, so that nothing there is an answer rather than a mistake.
    pub(super) may_be_missing: bool,
}

/// One step of a path, and where it ends in the expression.
pub(super) struct Segment<'e> {
    pub(super) step: Step<'e>,
    pub(super) end: usize,
}

/// One step of a path.
#[derive(Clone, Copy)]
pub(super) enum Step<'e> {
    /// `.name` or `['name']`.
    Name(&'e str),
    /// `[3]` or, from the end, `[-1]`.
    Index(i64),
}

impl<'e> Segment<'e> {
    /// The step as a key.
    pub(super) fn text(&self) -> Cow<'e, str> {
        match self.step {
            Step::Name(name) => Cow::Borrowed(name),
            Step::Index(index) => Cow::Owned(index.to_string()),
        }
    }
}

/// The use of a filter, test or function.
pub(super) struct Call<'e> {
    pub(super) kind: CallKind,
    pub(super) name: &'e str,
    pub(super) range: Range<usize>,
}

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    Filter,
    Test,
    Function,
}

/// What stands before the current place, as far as it decides what a name means there.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Dot,
    Pipe,
    Is,
    Else,
}

/// Finds the paths and calls of `text`.
pub(super) fn scan(text: &str) -> Result<Scanned<'_>, ExpressionError> {
    if text.len() > MAX_LENGTH {
        let message = format!("the expression is longer than {MAX_LENGTH} bytes");
        return Err(ExpressionError::new(message, 0..text.len()).with_help("compute this in a tool instead"));
    }
    if text.trim().is_empty() {
        return Err(ExpressionError::new("the expression is empty", 0..text.len()));
    }
    let mut scanner = Scanner { text, at: 0 };
    let mut scanned = Scanned { text, paths: SmallVec::new(), calls: Vec::new() };
    let mut before = Before::Else;
    for _ in 0..MAX_TOKENS {
        scanner.skip_space();
        let Some(first) = scanner.peek() else { return Ok(scanned) };
        let start = scanner.at;
        if first == b'\'' || first == b'"' {
            scanner.string()?;
            before = Before::Else;
        } else if first.is_ascii_digit() {
            scanner.number();
            before = Before::Else;
        } else if first.is_ascii_alphabetic() || first == b'_' {
            let name = scanner.name();
            before = scanner.word(name, before, &mut scanned)?;
        } else {
            scanner.at += text[start..].chars().next().map_or(1, char::len_utf8);
            before = match first {
                b'.' => Before::Dot,
                b'|' => Before::Pipe,
                _ => Before::Else,
            };
        }
    }
    let message = format!("the expression has more than {MAX_TOKENS} parts");
    Err(ExpressionError::new(message, 0..text.len()).with_help("compute this in a tool instead"))
}

struct Scanner<'e> {
    text: &'e str,
    at: usize,
}

impl<'e> Scanner<'e> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'e str {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn skip_space(&mut self) {
        self.take_while(|byte| byte.is_ascii_whitespace());
    }

    fn name(&mut self) -> &'e str {
        self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    fn hyphenated_name(&mut self) -> &'e str {
        self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    }

    fn number(&mut self) {
        self.name();
        if self.peek() == Some(b'.') && self.text.as_bytes().get(self.at + 1).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
            self.name();
        }
    }

    /// Passes a quoted text; gives what is inside, or nothing where that holds escapes.
    fn string(&mut self) -> Result<Option<&'e str>, ExpressionError> {
        let start = self.at;
        let quote = self.text.as_bytes()[start];
        let mut escaped = false;
        self.at += 1;
        loop {
            match self.peek() {
                None => {
                    let message = format!("the text that starts with {} is not closed", char::from(quote));
                    return Err(ExpressionError::new(message, start..self.text.len()));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at = (self.at + 2).min(self.text.len());
                }
                Some(byte) => {
                    self.at += 1;
                    if byte == quote {
                        let inside = &self.text[start + 1..self.at - 1];
                        return Ok((!escaped).then_some(inside));
                    }
                }
            }
        }
    }

    /// Decides what the word that was just passed is, and records it.
    fn word(&mut self, name: &'e str, before: Before, found: &mut Scanned<'e>) -> Result<Before, ExpressionError> {
        let range = self.at - name.len()..self.at;
        let mut call = |kind| found.calls.push(Call { kind, name, range: range.clone() });
        match (before, name) {
            (Before::Dot, _) => {}
            (Before::Pipe, _) => call(CallKind::Filter),
            (Before::Is, "not") => return Ok(Before::Is),
            (Before::Is, _) => call(CallKind::Test),
            (_, "is") => return Ok(Before::Is),
            (
                _,
                "and" | "or" | "not" | "in" | "if" | "else" | "true" | "false" | "none" | "True" | "False" | "None",
            ) => {}
            _ if self.follows("(") => call(CallKind::Function),
            _ if self.follows("=") && !self.follows("==") => {}
            _ => {
                let path = self.path(name, range.start)?;
                found.paths.push(path);
            }
        }
        Ok(Before::Else)
    }

    /// Whether `sign` comes next, white space aside.
    fn follows(&self, sign: &str) -> bool {
        self.text[self.at..].trim_start().starts_with(sign)
    }

    fn path(&mut self, root: &'e str, start: usize) -> Result<Path<'e>, ExpressionError> {
        let named = matches!(root, "tasks" | "inputs");
        let mut segments = SmallVec::<[Segment<'e>; 3]>::new();
        let mut end = self.at;
        while let Some(step) = self.step(named && segments.is_empty())? {
            segments.push(Segment { step, end: self.at });
            end = self.at;
        }
        self.at = end;
        if root == "tasks" && !matches!(segments.first(), Some(Segment { step: Step::Name(_), .. })) {
            return Err(ExpressionError::new("`tasks` must be followed by a task's id", start..end)
                .with_help("write the id itself, as in `tasks.find.output` or `tasks['find'].output`"));
        }
        Ok(Path { root, segments, range: start..end, may_be_missing: self.missing_is_answered() })
    }

    /// Passes one literal step; nothing where the path ends before `self.at`.
    fn step(&mut self, hyphens: bool) -> Result<Option<Step<'e>>, ExpressionError> {
        self.skip_space();
        if self.eat(b'.') {
            self.skip_space();
            let name = if hyphens { self.hyphenated_name() } else { self.name() };
            // `a.b(` calls a method: `b` is no part of the path.
            return Ok((!name.is_empty() && !self.follows("(")).then_some(Step::Name(name)));
        }
        if !self.eat(b'[') {
            return Ok(None);
        }
        self.skip_space();
        let step = match self.peek() {
            Some(b'\'' | b'"') => self.string()?.map(Step::Name),
            _ => {
                let digits = self.take_while(|byte| byte.is_ascii_digit() || byte == b'-');
                digits.parse().ok().map(Step::Index)
            }
        };
        self.skip_space();
        Ok(if self.eat(b']') { step } else { None })
    }

    fn missing_is_answered(&self) -> bool {
        let mut ahead = Scanner { text: self.text, at: self.at };
        ahead.skip_space();
        if ahead.eat(b'|') {
            ahead.skip_space();
            return matches!(ahead.name(), "default" | "d");
        }
        if ahead.name() != "is" {
            return false;
        }
        ahead.skip_space();
        let mut test = ahead.name();
        if test == "not" {
            ahead.skip_space();
            test = ahead.name();
        }
        matches!(test, "defined" | "undefined")
    }
}
