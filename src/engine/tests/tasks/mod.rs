//! Tests of tasks, items, and their routes.

mod calls;
mod foreach;
mod outages;
mod outcomes;
mod questions;
mod routes;
mod routing;
