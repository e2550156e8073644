//! Finds the saved plans whose goals resemble a new goal.

use std::collections::HashSet;

use super::ranking::{Ranker, SearchDocument};
use super::terms;
use crate::planner::planning::PlanExample;

/// The maximum number of plans.
const MAX_PLANS: usize = 2;
/// The minimum number of terms that similar goals share, and the minimum part of the terms of the shorter goal.
const MIN_SHARED_TERMS: usize = 2;
const MIN_SHARED_PART: f64 = 0.4;

/// Returns the plans whose goals resemble `goal`, the most similar one first.
pub(in crate::planner) fn similar_plans<'e>(goal: &str, plans: &'e [PlanExample]) -> Vec<&'e PlanExample> {
    let documents = plans.iter().map(|plan| SearchDocument {
        group: &plan.name,
        words: terms::terms(&plan.goal).chain(terms::terms(&plan.name)).collect(),
    });
    let wanted: HashSet<String> = terms::terms(goal).collect();
    let is_similar = |plan: &&PlanExample| {
        let found: HashSet<String> = terms::terms(&plan.goal).collect();
        let shared = wanted.intersection(&found).count();
        let shorter = wanted.len().min(found.len());
        shared >= MIN_SHARED_TERMS && shared as f64 >= MIN_SHARED_PART * shorter as f64
    };
    let ranking = Ranker::new(documents.collect()).rank(terms::query(goal));
    ranking.into_iter().map(|index| &plans[index]).filter(is_similar).take(MAX_PLANS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_goals_share_words_that_say_something() {
        let plan =
            |name: &str, goal: &str| PlanExample { name: name.to_owned(), goal: goal.to_owned(), text: String::new() };
        let plans = [
            plan("trip", "Plan a weekend in Lisbon and book a hotel"),
            plan("notes", "Save the notes of the meeting"),
            plan("weekend", "Plan the weekend in Porto with a hotel and a museum"),
            plan("other", "Find it"),
        ];
        let names = |goal: &str| similar_plans(goal, &plans).iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names("Planning weekends in Lisbon, with hotels"), ["trip", "weekend"]);
        assert_eq!(names("Meeting notes: save them"), ["notes"]);
        assert_eq!(names("Find out what the weather is"), Vec::<&str>::new());
    }
}
