//! Finds the paths of an expression, and every other name in it, without building a tree or evaluating it.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::error::{ExpressionError, ExpressionErrorKind};
use super::scope::{RESOURCE_NAME, TIME_FUNCTION};

/// The maximum length of an expression, in bytes: far more than a person writes, far less than deep trees need.
const MAX_EXPRESSION_BYTES: usize = 16 * 1024;
/// The maximum number of tokens in an expression. It bounds the depth of the tree, and so the stack.
const MAX_TOKENS: usize = 1_000;

/// The help for an expression that exceeds a limit.
pub(super) const USE_A_TOOL: &str = "compute this in a tool instead";

/// The result of a scan.
pub(super) struct ScannedExpression<'e> {
    /// The expression.
    pub(super) text: &'e str,
    /// Its paths, in order.
    pub(super) paths: SmallVec<[ExpressionPath<'e>; 1]>,
    /// Its filters, tests, and functions, in order.
    pub(super) invocations: Vec<Invocation<'e>>,
}

impl<'e> ScannedExpression<'e> {
    /// Returns the path, if the whole expression is one.
    pub(super) fn single_path(&self) -> Option<&ExpressionPath<'e>> {
        match self.paths.as_slice() {
            [path] if self.text.trim().len() == path.range.len() => Some(path),
            _ => None,
        }
    }
}

/// A name and the literal keys and indices after it.
pub(super) struct ExpressionPath<'e> {
    /// The name, `now()`, or the call of `resource()`.
    pub(super) root: &'e str,
    /// The keys and indices.
    pub(super) segments: SmallVec<[PathSegment<'e>; 3]>,
    /// The range in the expression.
    pub(super) range: Range<usize>,
    /// True if `default` or `is defined` follows, so that a missing value is not an error.
    pub(super) is_optional: bool,
    /// The call of `resource()`, if the path begins with one.
    pub(super) resource: Option<Box<ResourceCall<'e>>>,
}

/// A call of `resource()`.
pub(super) struct ResourceCall<'e> {
    /// The agent.
    pub(super) agent: &'e str,
    /// The expression of the URI, and its offset in the whole expression.
    pub(super) uri: &'e str,
    pub(super) uri_offset: usize,
}

/// One step of a path, and its end in the expression.
pub(super) struct PathSegment<'e> {
    pub(super) step: PathStep<'e>,
    pub(super) end: usize,
}

/// One step of a path.
#[derive(Clone, Copy)]
pub(super) enum PathStep<'e> {
    /// `.name` or `['name']`.
    Name(&'e str),
    /// `[3]`, or `[-1]` from the end.
    Index(i64),
}

impl<'e> PathSegment<'e> {
    /// Returns the step as a key.
    pub(super) fn text(&self) -> Cow<'e, str> {
        match self.step {
            PathStep::Name(name) => Cow::Borrowed(name),
            PathStep::Index(index) => Cow::Owned(index.to_string()),
        }
    }
}

/// The use of a filter, test, or function.
pub(super) struct Invocation<'e> {
    pub(super) kind: InvocationKind,
    pub(super) name: &'e str,
    pub(super) range: Range<usize>,
}

/// The kind of invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InvocationKind {
    Filter,
    Test,
    Function,
}

/// The preceding token, which determines the meaning of a name.
#[derive(Clone, Copy, PartialEq)]
enum PrecedingToken {
    Dot,
    Pipe,
    Is,
    Other,
}

/// Finds the paths and invocations of `text`.
pub(super) fn scan(text: &str) -> Result<ScannedExpression<'_>, ExpressionError> {
    if text.len() > MAX_EXPRESSION_BYTES {
        let message = format!("the expression is longer than {MAX_EXPRESSION_BYTES} bytes");
        return Err(
            ExpressionError::new(ExpressionErrorKind::LimitExceeded, message, 0..text.len()).with_help(USE_A_TOOL)
        );
    }
    if text.trim().is_empty() {
        return Err(ExpressionError::new(ExpressionErrorKind::InvalidSyntax, "the expression is empty", 0..text.len()));
    }
    let mut scanner = Scanner { text, offset: 0 };
    let mut scanned = ScannedExpression { text, paths: SmallVec::new(), invocations: Vec::new() };
    let mut before = PrecedingToken::Other;
    for _ in 0..MAX_TOKENS {
        scanner.skip_whitespace();
        let Some(first) = scanner.peek() else { return Ok(scanned) };
        let start = scanner.offset;
        if first == b'\'' || first == b'"' {
            scanner.string()?;
            before = PrecedingToken::Other;
        } else if first.is_ascii_digit() {
            scanner.number();
            before = PrecedingToken::Other;
        } else if first.is_ascii_alphabetic() || first == b'_' {
            let name = scanner.name();
            before = scanner.classify_word(name, before, &mut scanned)?;
        } else {
            scanner.offset += text[start..].chars().next().map_or(1, char::len_utf8);
            before = match first {
                b'.' => PrecedingToken::Dot,
                b'|' => PrecedingToken::Pipe,
                _ => PrecedingToken::Other,
            };
        }
    }
    let message = format!("the expression has more than {MAX_TOKENS} parts");
    Err(ExpressionError::new(ExpressionErrorKind::LimitExceeded, message, 0..text.len()).with_help(USE_A_TOOL))
}

struct Scanner<'e> {
    text: &'e str,
    offset: usize,
}

impl<'e> Scanner<'e> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.offset += usize::from(is_next);
        is_next
    }

    fn consume_while(&mut self, is_accepted: impl Fn(u8) -> bool) -> &'e str {
        let start = self.offset;
        while self.peek().is_some_and(&is_accepted) {
            self.offset += 1;
        }
        &self.text[start..self.offset]
    }

    fn skip_whitespace(&mut self) {
        self.consume_while(|byte| byte.is_ascii_whitespace());
    }

    fn name(&mut self) -> &'e str {
        self.consume_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    fn hyphenated_name(&mut self) -> &'e str {
        self.consume_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    }

    fn number(&mut self) {
        self.name();
        if self.peek() == Some(b'.') && self.text.as_bytes().get(self.offset + 1).is_some_and(u8::is_ascii_digit) {
            self.offset += 1;
            self.name();
        }
    }

    /// Skips a quoted string. Returns its content, or `None` if it contains escapes.
    fn string(&mut self) -> Result<Option<&'e str>, ExpressionError> {
        let start = self.offset;
        let quote = self.text.as_bytes()[start];
        let mut escaped = false;
        self.offset += 1;
        loop {
            match self.peek() {
                None => {
                    let message = format!("the string that starts with {} is not closed", char::from(quote));
                    let range = start..self.text.len();
                    return Err(ExpressionError::new(ExpressionErrorKind::InvalidSyntax, message, range));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.offset = (self.offset + 2).min(self.text.len());
                }
                Some(byte) => {
                    self.offset += 1;
                    if byte == quote {
                        let inside = &self.text[start + 1..self.offset - 1];
                        return Ok((!escaped).then_some(inside));
                    }
                }
            }
        }
    }

    /// Classifies and records the word that was just skipped.
    fn classify_word(
        &mut self,
        name: &'e str,
        before: PrecedingToken,
        scanned: &mut ScannedExpression<'e>,
    ) -> Result<PrecedingToken, ExpressionError> {
        let range = self.offset - name.len()..self.offset;
        let mut add_call = |kind| scanned.invocations.push(Invocation { kind, name, range: range.clone() });
        match (before, name) {
            (PrecedingToken::Dot, _) => {}
            (PrecedingToken::Pipe, _) => add_call(InvocationKind::Filter),
            (PrecedingToken::Is, "not") => return Ok(PrecedingToken::Is),
            (PrecedingToken::Is, _) => add_call(InvocationKind::Test),
            (_, "is") => return Ok(PrecedingToken::Is),
            (
                _,
                "and" | "or" | "not" | "in" | "if" | "else" | "true" | "false" | "none" | "True" | "False" | "None",
            ) => {}
            (_, RESOURCE_NAME) if self.is_next("(") => {
                let path = self.resource_path(range.start)?;
                scanned.paths.push(path);
            }
            (_, "now") if self.is_next("(") => {
                let path = self.time_path(range.start)?;
                scanned.paths.push(path);
            }
            _ if self.is_next("(") => add_call(InvocationKind::Function),
            _ if self.is_next("=") && !self.is_next("==") => {}
            _ => {
                let path = self.path(name, range.start)?;
                scanned.paths.push(path);
            }
        }
        Ok(PrecedingToken::Other)
    }

    /// Returns whether `sign` comes next, after optional whitespace.
    fn is_next(&self, sign: &str) -> bool {
        self.text[self.offset..].trim_start().starts_with(sign)
    }

    fn path(&mut self, root: &'e str, start: usize) -> Result<ExpressionPath<'e>, ExpressionError> {
        let segments = self.segments(matches!(root, "tasks" | "inputs"))?;
        let end = self.offset;
        if root == "tasks" && !matches!(segments.first(), Some(PathSegment { step: PathStep::Name(_), .. })) {
            let message = "`tasks` must be followed by the ID of a task";
            let error = ExpressionError::new(ExpressionErrorKind::InvalidSyntax, message, start..end);
            return Err(error.with_help("write the ID itself, as in `tasks.find.output` or `tasks['find'].output`"));
        }
        let is_optional = self.is_missing_handled();
        Ok(ExpressionPath { root, segments, range: start..end, is_optional, resource: None })
    }

    /// Skips the empty arguments of `now`.
    fn time_path(&mut self, start: usize) -> Result<ExpressionPath<'e>, ExpressionError> {
        self.skip_whitespace();
        self.accept(b'(');
        self.skip_whitespace();
        if !self.accept(b')') {
            let message = "`now` expects no arguments";
            let error = ExpressionError::new(ExpressionErrorKind::InvalidSyntax, message, start..self.offset);
            return Err(error.with_help("`now() | date('%Y-%m-%d')` formats the time"));
        }
        let segments = self.segments(false)?;
        let (range, is_optional) = (start..self.offset, self.is_missing_handled());
        Ok(ExpressionPath { root: TIME_FUNCTION, segments, range, is_optional, resource: None })
    }

    /// Skips the arguments of `resource`, and the steps after them.
    fn resource_path(&mut self, start: usize) -> Result<ExpressionPath<'e>, ExpressionError> {
        let Some(call) = self.resource_call()? else {
            let message = "`resource` expects the name of an agent and a URI";
            let error = ExpressionError::new(ExpressionErrorKind::InvalidSyntax, message, start..self.offset);
            return Err(error.with_help("write the name itself, as in `resource('archive', inputs.uri)`"));
        };
        let root = &self.text[start..self.offset];
        let segments = self.segments(false)?;
        let (range, is_optional) = (start..self.offset, self.is_missing_handled());
        Ok(ExpressionPath { root, segments, range, is_optional, resource: Some(Box::new(call)) })
    }

    /// Skips `('AGENT', URI)`. Returns `None` if anything else follows.
    fn resource_call(&mut self) -> Result<Option<ResourceCall<'e>>, ExpressionError> {
        self.skip_whitespace();
        self.accept(b'(');
        self.skip_whitespace();
        let Some(b'\'' | b'"') = self.peek() else { return Ok(None) };
        let Some(agent) = self.string()? else { return Ok(None) };
        self.skip_whitespace();
        if !self.accept(b',') {
            return Ok(None);
        }
        self.skip_whitespace();
        let uri_offset = self.offset;
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                None => return Ok(None),
                Some(b'\'' | b'"') => {
                    self.string()?;
                    continue;
                }
                Some(b'(' | b'[' | b'{') => depth += 1,
                Some(b')') if depth == 0 => break,
                Some(b')' | b']' | b'}') => depth = depth.saturating_sub(1),
                Some(_) => {}
            }
            self.offset += 1;
        }
        let uri = self.text[uri_offset..self.offset].trim_end();
        self.accept(b')');
        Ok((!uri.is_empty()).then_some(ResourceCall { agent, uri, uri_offset }))
    }

    /// Skips the literal steps after a name.
    fn segments(&mut self, allows_hyphens: bool) -> Result<SmallVec<[PathSegment<'e>; 3]>, ExpressionError> {
        let mut segments = SmallVec::new();
        let mut end = self.offset;
        while let Some(step) = self.path_step(allows_hyphens && segments.is_empty())? {
            segments.push(PathSegment { step, end: self.offset });
            end = self.offset;
        }
        self.offset = end;
        Ok(segments)
    }

    /// Skips one literal step; returns `None` if the path ends before the current offset.
    fn path_step(&mut self, hyphens: bool) -> Result<Option<PathStep<'e>>, ExpressionError> {
        self.skip_whitespace();
        if self.accept(b'.') {
            self.skip_whitespace();
            let name = if hyphens { self.hyphenated_name() } else { self.name() };
            // `a.b(` calls a method, so `b` is not part of the path.
            return Ok((!name.is_empty() && !self.is_next("(")).then_some(PathStep::Name(name)));
        }
        if !self.accept(b'[') {
            return Ok(None);
        }
        self.skip_whitespace();
        let step = match self.peek() {
            Some(b'\'' | b'"') => self.string()?.map(PathStep::Name),
            _ => {
                let digits = self.consume_while(|byte| byte.is_ascii_digit() || byte == b'-');
                digits.parse().ok().map(PathStep::Index)
            }
        };
        self.skip_whitespace();
        Ok(if self.accept(b']') { step } else { None })
    }

    fn is_missing_handled(&self) -> bool {
        let mut ahead = Scanner { text: self.text, offset: self.offset };
        ahead.skip_whitespace();
        if ahead.accept(b'|') {
            ahead.skip_whitespace();
            return matches!(ahead.name(), "default" | "d");
        }
        if ahead.name() != "is" {
            return false;
        }
        ahead.skip_whitespace();
        let mut test = ahead.name();
        if test == "not" {
            ahead.skip_whitespace();
            test = ahead.name();
        }
        matches!(test, "defined" | "undefined")
    }
}
