//! The documents of the repository: their links, their examples, and the pages that are generated.

mod links;
mod markdown;
mod reference;
mod snippets;
mod tutorial;
