//! Reads the files of other hosts for `kapell agents import`.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::cli::CliError;
use crate::config::{
    self, ConfigPlace, Diagnostics, ImportContext, ImportedAgents, McpHost, OperatingSystem, Surroundings,
};
use crate::system::{archive, environment, files, hash};

/// The maximum size of an unpacked bundle.
const MAX_BUNDLE_BYTES: u64 = 1024 * 1024 * 1024;
/// The name of the manifest in a bundle.
const MANIFEST: &str = "manifest.json";

/// A file with agents.
pub(crate) struct ImportSource {
    /// The host, if it is known.
    pub(crate) host: Option<&'static McpHost>,
    /// The path of the file.
    pub(crate) path: PathBuf,
    /// The agents of the file.
    pub(crate) agents: ImportedAgents,
    /// Where the bundle is unpacked, if the file is one.
    pub(crate) bundle: Option<PathBuf>,
}

impl ImportSource {
    /// Unpacks the bundle, unless that was done before.
    ///
    /// # Errors
    /// Fails if the bundle cannot be read or written.
    pub(crate) fn unpack(&self) -> Result<(), CliError> {
        match &self.bundle {
            Some(directory) if !directory.exists() => archive::unpack(&self.path, directory, MAX_BUNDLE_BYTES)
                .map_err(|error| failed_to_read(&self.path, error)),
            _ => Ok(()),
        }
    }
}

/// The files that were found.
#[derive(Default)]
pub(crate) struct ImportSources {
    /// The files that could be read.
    pub(crate) files: Vec<ImportSource>,
    /// The diagnostics of the other files.
    pub(crate) broken: Vec<Diagnostics>,
}

/// Reads one file, of the named host or of the one that it is recognized as.
///
/// # Errors
/// Fails if the file cannot be read.
pub(crate) fn read_file(path: &Path, from: Option<&'static McpHost>) -> Result<ImportSource, CliError> {
    let is_bundle = path.extension().is_some_and(|extension| extension == "mcpb" || extension == "dxt");
    if is_bundle {
        return read_bundle(path);
    }
    let text = config::read_text(path)?;
    let (project, in_project) = config::project_of_file(path);
    let context = ImportContext { project: &project, in_project };
    let agents = match from {
        Some(host) => config::read_host_file(host, (&path.display().to_string(), &text), &context)?,
        None => config::read_any_file(path, &text, &context)?,
    };
    Ok(ImportSource { host: from, path: path.to_owned(), agents, bundle: None })
}

/// Reads the files of all hosts, or of one.
pub(crate) fn read_places(only: Option<&'static McpHost>) -> ImportSources {
    let mut sources = ImportSources::default();
    let home = directories::BaseDirs::new().map(|directories| directories.home_dir().to_owned()).unwrap_or_default();
    let project = std::env::current_dir().unwrap_or_default();
    let surroundings = Surroundings {
        system: OperatingSystem::current(),
        home: &home,
        project: &project,
        variable: &|name| environment::variable(name)?.into_string().ok(),
    };
    // Two hosts can share a file, and the working directory can be the home directory.
    let mut places = IndexMap::new();
    for place in config::config_places(only, &surroundings) {
        places.extend(files_at(&place.path).into_iter().map(|path| (path, place.clone())));
    }
    for (path, place) in places {
        match read_place(&place, &path, &project) {
            Ok(agents) if agents == ImportedAgents::default() => {}
            Ok(agents) => sources.files.push(ImportSource { host: Some(place.host), path, agents, bundle: None }),
            Err(diagnostics) => sources.broken.push(diagnostics),
        }
    }
    sources
}

fn read_place(place: &ConfigPlace, path: &Path, project: &Path) -> Result<ImportedAgents, Diagnostics> {
    let context = ImportContext { project, in_project: place.in_project };
    config::read_host_file(place.host, (&path.display().to_string(), &config::read_text(path)?), &context)
}

/// Returns the file at a path, or the files of the directory if the last part of the path is `*`.
fn files_at(path: &Path) -> Vec<PathBuf> {
    if !path.ends_with("*") {
        return path.is_file().then(|| path.to_owned()).into_iter().collect();
    }
    let entries = path.parent().and_then(|directory| std::fs::read_dir(directory).ok()).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.is_file());
    files.sort();
    files
}

fn read_bundle(path: &Path) -> Result<ImportSource, CliError> {
    let manifest = archive::read_file(path, MANIFEST, files::MAX_FILE_BYTES);
    let manifest = manifest.map_err(|error| failed_to_read(path, error))?;
    let manifest = String::from_utf8_lossy(&manifest);
    let bytes = files::read(path, MAX_BUNDLE_BYTES).map_err(|error| failed_to_read(path, error))?;
    let digest = hash::sha256(&bytes);
    let Some(data) = directories::ProjectDirs::from("", "", "kapell").map(|dirs| dirs.data_dir().join("bundles"))
    else {
        return Err(CliError::usage(
            "cli::no_data_directory",
            "the platform has no directory for the data of programs",
            "set `HOME` to your home directory",
        ));
    };
    let name = format!("{}:{MANIFEST}", path.display());
    let directory = |agent: &str| data.join(format!("{agent}-{}", &digest[..12]));
    let (agents, directory) = config::read_bundle_manifest((&name, &manifest), directory, OperatingSystem::current())?;
    Ok(ImportSource { host: None, path: path.to_owned(), agents, bundle: Some(directory) })
}

fn failed_to_read(path: &Path, error: std::io::Error) -> CliError {
    CliError::failed("cli::bundle", format!("the bundle `{}` cannot be unpacked", path.display()), error)
}
