//! Bounds the values that operators create, by rewriting an expression with calls that charge them. Nothing is computed
//! here: `[1] * 100000000` is small until it is iterated.

use std::ops::Range;

use minijinja::Error;
use minijinja::machinery::ast::{BinOpKind, CallArg, Expr};
use minijinja::machinery::{self};

use super::budget::limit_exceeded;
use super::builtins::BOUNDED;

/// The maximum number of slices in an expression. Each iteration over a slice iterates over its list again.
const MAX_SLICES: usize = 16;

/// An expression that charges every value that an operator may make larger than its operands.
pub(super) struct Bounded {
    /// The rewritten expression.
    pub(super) text: String,
    /// The insertions: the position in the original expression, and the number of bytes.
    insertions: Vec<(usize, usize)>,
}

impl Bounded {
    /// Returns an expression without calls.
    pub(super) fn without_calls(text: String) -> Self {
        Self { text, insertions: Vec::new() }
    }

    /// Inserts calls around the results of the operators in `text`.
    ///
    /// # Errors
    /// Returns an error if the expression is invalid or has too many slices.
    pub(super) fn new(text: &str) -> Result<Self, Error> {
        // Most expressions have no operators and need not be parsed twice.
        if !text.contains(['*', '+', '~', ':', '(']) {
            return Ok(Self::without_calls(text.to_owned()));
        }
        let expression = machinery::parse_expr(text)?;
        let mut operators = OperatorScan { has_product: text.contains('*'), ..OperatorScan::default() };
        operators.visit(&expression, 0);
        if operators.slices > MAX_SLICES {
            return Err(limit_exceeded(format!("the expression has more than {MAX_SLICES} slices")));
        }
        let mut text = text.to_owned();
        for Range { start, end } in operators.tuples {
            text.replace_range(start..=start, "[");
            text.replace_range(end - 1..end, "]");
        }
        // At the same position, closing brackets come before opening ones.
        let mut brackets: Vec<_> =
            operators.results.iter().flat_map(|range| [(range.start, true), (range.end, false)]).collect();
        brackets.sort_unstable();
        let mut bounded = Self { text: String::with_capacity(text.len() + 16), insertions: Vec::new() };
        let mut done = 0;
        for (position, opens) in brackets {
            bounded.text.push_str(&text[done..position]);
            done = position;
            let before = bounded.text.len();
            if opens {
                bounded.text.push_str(BOUNDED);
            }
            bounded.text.push(if opens { '(' } else { ')' });
            bounded.insertions.push((position, bounded.text.len() - before));
        }
        bounded.text.push_str(&text[done..]);
        Ok(bounded)
    }

    /// Converts an offset in the rewritten text to one in the original expression.
    pub(super) fn original(&self, at: usize) -> usize {
        let mut inserted = 0;
        for (position, length) in &self.insertions {
            if at <= position + inserted {
                break;
            }
            inserted += (*length).min(at - position - inserted);
        }
        at - inserted
    }
}

/// The number of operators in a chain, such as `a + b + c`, that share one charge. One call for each would nest them.
const CHAIN: usize = 16;

/// The parts of an expression that need a call.
#[derive(Default)]
struct OperatorScan {
    has_product: bool,
    /// The ranges of values that may be larger than their operands.
    results: Vec<Range<usize>>,
    /// Tuples, which become lists: JSON has no tuples, and repeating one copies it.
    tuples: Vec<Range<usize>>,
    slices: usize,
}

impl OperatorScan {
    /// Visits an expression and its subexpressions. `link` is its position in a chain of operators, from the end.
    fn visit(&mut self, expression: &Expr<'_>, link: usize) {
        let span = expression.span();
        let range = span.start_offset as usize..span.end_offset as usize;
        match expression {
            Expr::Var(_) => {}
            // Otherwise the compiler would evaluate the multiplication.
            Expr::Const(constant) if self.has_product && constant.value.as_str().is_some() => self.results.push(range),
            Expr::Const(_) => {}
            Expr::BinOp(operation) => {
                let (can_grow, is_chain) = match (operation.op, &operation.left) {
                    // A product within a sum or a concatenation is charged separately, since it can be very long.
                    (BinOpKind::Mul, Expr::BinOp(operand)) => (true, matches!(operand.op, BinOpKind::Mul)),
                    (BinOpKind::Add | BinOpKind::Concat, Expr::BinOp(operand)) => {
                        (true, matches!(operand.op, BinOpKind::Add | BinOpKind::Concat))
                    }
                    (BinOpKind::Add | BinOpKind::Mul | BinOpKind::Concat, _) => (true, false),
                    _ => (false, false),
                };
                if can_grow && link.is_multiple_of(CHAIN) {
                    self.results.push(range);
                }
                self.visit(&operation.left, if is_chain { link + 1 } else { 0 });
                self.visit(&operation.right, 0);
            }
            Expr::Slice(slice) => {
                self.slices += 1;
                let bounds = [&slice.start, &slice.stop, &slice.step].into_iter().flatten();
                self.visit_all(std::iter::once(&slice.expr).chain(bounds));
            }
            Expr::Tuple(tuple) => {
                self.tuples.push(range);
                self.visit_all(&tuple.items);
            }
            Expr::UnaryOp(operation) => self.visit(&operation.expr, 0),
            Expr::Compare(comparison) => {
                self.visit(&comparison.expr, 0);
                self.visit_all(comparison.ops.iter().map(|next| &next.expr));
            }
            Expr::IfExpr(choice) => {
                self.visit_all([&choice.test_expr, &choice.true_expr].into_iter().chain(&choice.false_expr));
            }
            Expr::Filter(filter) => self.visit_all(filter.expr.iter().chain(filter.args.iter().map(argument))),
            Expr::Test(test) => {
                self.visit(&test.expr, 0);
                self.visit_all(test.args.iter().map(argument));
            }
            Expr::GetAttr(attribute) => self.visit(&attribute.expr, 0),
            Expr::GetItem(item) => self.visit_all([&item.expr, &item.subscript_expr]),
            // The name of a function is not a value.
            Expr::Call(call) => self.visit_all(call.args.iter().map(argument)),
            Expr::List(list) => self.visit_all(&list.items),
            Expr::Map(map) => self.visit_all(map.keys.iter().chain(&map.values)),
        }
    }

    fn visit_all<'a, 'e: 'a>(&mut self, expressions: impl IntoIterator<Item = &'a Expr<'e>>) {
        expressions.into_iter().for_each(|expression| self.visit(expression, 0));
    }
}

/// Returns the value of an argument.
fn argument<'a, 'e>(argument: &'a CallArg<'e>) -> &'a Expr<'e> {
    match argument {
        CallArg::Pos(value) | CallArg::Kwarg(_, value) | CallArg::PosSplat(value) | CallArg::KwargSplat(value) => value,
    }
}
