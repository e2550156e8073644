//! `kapell packaging-files`: writes the manual pages and the completion scripts for packages.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};

use crate::cli::completion::completion_script;
use crate::cli::help::manual_pages;
use crate::cli::{CliError, Exit};

/// The shells whose scripts are packaged, and the names that they look for.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "kapell.bash"), ("zsh", "_kapell"), ("fish", "kapell.fish")];

#[derive(Debug, Args)]
pub(crate) struct PackagingFilesArgs {
    /// The directory for `man` and `completions`
    directory: PathBuf,
}

/// Writes the files for the program with this command line.
pub(crate) fn packaging_files(args: &PackagingFilesArgs, root: Command) -> Result<Exit, CliError> {
    let failed = |error| {
        let doing = format!("cannot write the files for packages to `{}`", args.directory.display());
        CliError::failed("cli::unwritable", doing, error)
    };
    let pages = manual_pages(root).map_err(failed)?;
    write_all(&args.directory.join("man"), pages).map_err(failed)?;
    let scripts = COMPLETIONS.map(|(shell, file)| Ok((file.to_owned(), completion_script(shell)?)));
    let scripts: Vec<(String, Vec<u8>)> = scripts.into_iter().collect::<io::Result<_>>().map_err(failed)?;
    write_all(&args.directory.join("completions"), scripts).map_err(failed)?;
    Ok(Exit::Success)
}

fn write_all(directory: &Path, files: Vec<(String, Vec<u8>)>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    files.into_iter().try_for_each(|(name, text)| fs::write(directory.join(name), text))
}
