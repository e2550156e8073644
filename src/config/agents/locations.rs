//! Finds the agents files of the project and of the user.

use std::path::{Path, PathBuf};

/// The name of an agents file.
const FILE_NAME: &str = "agents.toml";

/// The agents files of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentsFiles {
    /// The file of the project, or the one that was named.
    pub project: Option<PathBuf>,
    /// The file of the user, which adds agents and models that the project does not have.
    pub user: Option<PathBuf>,
    /// The places that were searched.
    pub searched: Vec<PathBuf>,
}

impl AgentsFiles {
    /// Returns a file that was named. It is the only one.
    pub fn named(path: PathBuf) -> Self {
        Self { project: Some(path), ..Self::default() }
    }

    /// Finds the file of the project beside the plan, or else in the working directory and above it up to the root of
    /// the repository, and the file of the user in the platform's configuration directory.
    pub fn find(plan: Option<&Path>) -> Self {
        let user = user_file();
        let here = std::path::absolute(".").unwrap_or_default();
        let is_here = |path: &PathBuf| std::path::absolute(path).is_ok_and(|path| path == here.join(FILE_NAME));
        let beside_plan = plan.map(|plan| plan.with_file_name(FILE_NAME)).filter(|path| !is_here(path));
        let above = directories_up(&here).skip(1).map(|directory| directory.join(FILE_NAME));
        let places: Vec<PathBuf> =
            beside_plan.into_iter().chain(std::iter::once(PathBuf::from(FILE_NAME))).chain(above).collect();
        let project = places.iter().find(|path| path.exists()).cloned();
        let is_same = |user: &PathBuf| project.as_ref().is_some_and(|project| same_file(project, user));
        let found = user.clone().filter(|user| user.exists() && !is_same(user));
        Self { project, user: found, searched: places.into_iter().chain(user).collect() }
    }

    /// Returns the message for missing files, with the places that were searched.
    pub fn missing_message(&self) -> String {
        let places: Vec<String> = self.searched.iter().map(|path| format!("`{}`", path.display())).collect();
        format!("no agents file was found: looked for {}", places.join(", "))
    }

    /// Returns the file of the project, or else that of the user.
    pub fn first(&self) -> Option<&Path> {
        self.project.as_deref().or(self.user.as_deref())
    }
}

/// Returns the path of the agents file of the user, if the platform has a configuration directory.
pub fn user_file() -> Option<PathBuf> {
    Some(directories::ProjectDirs::from("", "", "kapell")?.config_dir().join(FILE_NAME))
}

/// Returns a directory and those above it, up to the root of its repository. Outside of a repository, returns only the
/// directory itself.
fn directories_up(directory: &Path) -> impl Iterator<Item = &Path> {
    let root = directory.ancestors().position(|directory| directory.join(".git").exists()).unwrap_or(0);
    directory.ancestors().take(root + 1)
}

fn same_file(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().is_some_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_ends_at_the_root_of_the_repository() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("a/b/c");
        std::fs::create_dir_all(&inner).expect("created");
        assert_eq!(directories_up(&inner).count(), 1);
        std::fs::create_dir(folder.path().join("a/.git")).expect("created");
        let found: Vec<&Path> = directories_up(&inner).collect();
        assert_eq!(found, [&*inner, &*folder.path().join("a/b"), &*folder.path().join("a")]);
    }

    #[test]
    fn the_file_beside_the_plan_is_the_first_place() {
        let searched = AgentsFiles::find(Some(Path::new("/missing/plan.yaml"))).searched;
        assert_eq!(searched[..2], [PathBuf::from("/missing/agents.toml"), PathBuf::from("agents.toml")]);
    }
}
