//! The notation of the keys, and what several files have in common.

use crate::config::schema::table::ValueType::{self, Choice, Integer};

/// Defines a table and its keys. Each key is a field of the static, so a misspelled key, or one of
/// another table, does not compile.
///
/// A key is written `field: type, description;`. Its name is that of the field, or the text after the field. A text
/// after `|` is its alias.
macro_rules! table {
    (
        $(#[$doc:meta])*
        $table:ident: $keys:ident = $title:literal, required [$($required:ident),*], $description:literal;
        $($field:ident $($name:literal)? $(| $alias:literal)?: $value_type:expr, $about:literal;)+
    ) => {
        $(#[$doc])*
        pub(crate) static $table: $keys = $keys {
            table: $crate::config::schema::table::TableSchema {
                name: stringify!($table),
                title: $title,
                description: $description,
                required: &[$(&$table.$required.schema),*],
                keys: &[$(&$table.$field.schema),+],
            },
            $($field: $crate::config::schema::table::Key {
                schema: $crate::config::schema::table::KeySchema {
                    name: [$($name,)? stringify!($field)][0],
                    aliases: &[$($alias)?],
                    description: $about,
                    value_type: $value_type,
                },
                table: std::marker::PhantomData,
            },)+
        };

        #[doc = concat!("The keys of [`", stringify!($table), "`].")]
        pub(crate) struct $keys {
            pub(crate) table: $crate::config::schema::table::TableSchema,
            $(pub(crate) $field: $crate::config::schema::table::Key<$keys>,)+
        }
    };
}

pub(super) use table;

pub(super) const EFFECTS: ValueType = Choice(&[
    ("read_only", "The call has no side effects."),
    ("idempotent", "A repeated call has no further effect."),
    ("at_most_once", "A repeated call may take effect twice, so a call without a response is never repeated."),
]);

pub(super) const CONCURRENCY: ValueType = Integer(1, 100_000);
