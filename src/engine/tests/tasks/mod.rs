//! Tests of tasks, items, reads, and their routes.

mod calls;
mod foreach;
mod host;
mod outages;
mod outcomes;
mod questions;
mod reads;
mod routes;
mod routing;
mod steps;
mod values;
