//! `hosts.md`: the hosts whose agents can be imported, and where each keeps them.

use std::path::Path;

use kapell::config::{HOSTS, OperatingSystem, Surroundings, config_places};

use super::page::{check_page, table};

const HEAD: &str = "# Hosts that agents are imported from

The files that `kapell agents import` and `kapell init` read, by the name for `--from`. [Moving over](../moving.md) explains
what is imported.

";

#[test]
fn hosts_are_up_to_date() {
    let rows = HOSTS.iter().map(|host| {
        let files = |system| {
            let variable = |name: &str| match name {
                "XDG_CONFIG_HOME" | "APPDATA" | "LOCALAPPDATA" => None,
                name => Some(format!("${name}")),
            };
            let (home, project) = (Path::new("~"), Path::new(""));
            config_places(Some(host), &Surroundings { system, home, project, variable: &variable })
        };
        let paths = |system, in_project| {
            let places = files(system).into_iter().filter(|place| place.in_project == in_project);
            let paths: Vec<String> = places.map(|place| shown(&place.path)).collect();
            paths.join("\n")
        };
        let linux = paths(OperatingSystem::Linux, false);
        let mac = paths(OperatingSystem::Mac, false);
        let mac = if mac == linux { "the same".to_owned() } else { mac };
        vec![format!("`{}`", host.name), host.title.to_owned(), linux, mac, paths(OperatingSystem::Linux, true)]
    });
    let head = ["`--from`", "host", "files of the user, Linux", "macOS", "files in a project"];
    check_page("hosts.md", &(HEAD.to_owned() + &table(&head, rows)));
}

fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}
