//! Maps tool names to names that every endpoint accepts, and back. The mapping is one-to-one.

use indexmap::IndexMap;

/// The maximum length of a function name that endpoints accept, in characters.
const MAX_TOOL_NAME_CHARS: usize = 64;

/// The tool names of one request.
#[derive(Debug, Default)]
pub(super) struct ToolNames {
    /// Maps each original name to its wire name.
    wire_names: IndexMap<String, String>,
}

impl ToolNames {
    /// Returns the wire name for `name`, which matches `[A-Za-z0-9_-]{1,64}`.
    pub(super) fn wire_name(&mut self, name: &str) -> String {
        if let Some(wire_name) = self.wire_names.get(name) {
            return wire_name.clone();
        }
        let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let base: String = name.chars().map(|c| if fits(&c) { c } else { '_' }).take(MAX_TOOL_NAME_CHARS).collect();
        let base = if base.is_empty() { "tool".to_owned() } else { base };
        let numbered = (2_usize..).map(|number| {
            let ending = format!("_{number}");
            format!("{}{ending}", &base[..base.len().min(MAX_TOOL_NAME_CHARS - ending.len())])
        });
        let unused = std::iter::once(base.clone())
            .chain(numbered)
            .find(|one| self.wire_names.values().all(|other| other != one));
        let unused = unused.expect("there are more numbers than tools");
        self.wire_names.insert(name.to_owned(), unused.clone());
        unused
    }

    /// Returns the original name for a wire name; an unknown name maps to itself.
    pub(super) fn original_name(&self, wire_name: &str) -> String {
        let entry = self.wire_names.iter().find(|(_, other)| *other == wire_name);
        entry.map_or(wire_name, |(original, _)| original).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_names_are_valid_and_reversible() {
        let mut names = ToolNames::default();
        let long = "x".repeat(100);
        let longer = "x".repeat(101);
        let originals =
            ["search", "files.read", "files/read", "files_read", "größe", "", "a b", &long, &longer, "files.read"];
        let wire_name: Vec<String> = originals.iter().map(|name| names.wire_name(name)).collect();
        let expected =
            ["search", "files_read", "files_read_2", "files_read_3", "gr__e", "tool", "a_b"].map(str::to_owned);
        assert_eq!(wire_name[..7], expected);
        assert_eq!(
            (wire_name[7].as_str(), wire_name[8].as_str()),
            (&*"x".repeat(64), &*format!("{}_2", "x".repeat(62)))
        );
        assert_eq!(wire_name[9], wire_name[1]);
        for (original, wire_name) in originals.iter().zip(&wire_name) {
            assert_eq!(names.original_name(wire_name), *original);
        }
        assert_eq!(names.original_name("unknown"), "unknown");
    }
}
