//! Downloads the wheels that hold the data, once, below `target`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::BenchResult;

/// A wheel of PyPI.
pub(crate) struct Wheel {
    path: PathBuf,
}

impl Wheel {
    /// Downloads the wheel of a package, unless it is there.
    pub(crate) fn download(package: &str, version: &str) -> BenchResult<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/planning-data");
        std::fs::create_dir_all(&folder)?;
        let stem = format!("{}-{version}-", package.replace('-', "_"));
        let find = || -> BenchResult<Option<PathBuf>> {
            let mut entries = std::fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
            let is_wheel = |path: &PathBuf| {
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&stem))
            };
            Ok(entries.find(is_wheel))
        };
        if let Some(path) = find()? {
            return Ok(Self { path });
        }
        let requirement = format!("{package}=={version}");
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]);
        let status = command.arg(&folder).arg(&requirement).status()?;
        if !status.success() {
            return Err(format!("`pip download {requirement}` failed: {status}").into());
        }
        Ok(Self { path: find()?.ok_or_else(|| format!("no wheel of {requirement}"))? })
    }

    /// Returns the text of a file whose path ends so.
    pub(crate) fn text(&self, ending: &str) -> BenchResult<String> {
        let mut archive = zip::ZipArchive::new(File::open(&self.path)?)?;
        let name = archive.file_names().flatten().find(|name| name.ends_with(ending)).map(|name| name.into_owned());
        let name = name.ok_or_else(|| format!("`{}` has no `{ending}`", self.path.display()))?;
        let mut text = String::new();
        archive.by_name(&name)?.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Returns the JSON of a file whose path ends so.
    pub(crate) fn json(&self, ending: &str) -> BenchResult<Value> {
        Ok(serde_json::from_str(&self.text(ending)?)?)
    }
}
