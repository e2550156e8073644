//! Tests of tasks, items, reads, and their routes.

mod calls;
mod foreach;
mod outages;
mod outcomes;
mod questions;
mod reads;
mod routes;
mod routing;
mod values;
