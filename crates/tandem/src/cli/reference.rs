//! The pages of `docs/reference/`, made from the tables that the program itself uses, and the test that they are current.
//!
//! `TANDEM_WRITE_DOCS=1 cargo test -p tandem reference` writes them anew.

use std::path::PathBuf;

use clap::CommandFactory as _;
use tandem_config::settings::reference_markdown;

use super::Cli;

/// Every command with its options, as `--help` has them.
fn commands_markdown() -> String {
    let mut page = String::from(
        "# Commands\n\nMade from the program's own `--help`.\n\n\
         Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 refused for safety, with the rule's name.\n\
         The commands that ask the daemon do so on this host, over the control socket in `state_dir`.\n",
    );
    let root = Cli::command();
    for command in root.get_subcommands() {
        section(command, "tandem", &mut page);
    }
    page
}

fn section(command: &clap::Command, parent: &str, page: &mut String) {
    let name = format!("{parent} {}", command.get_name());
    if command.has_subcommands() {
        for inner in command.get_subcommands() {
            section(inner, &name, page);
        }
        if command.get_positionals().next().is_none() {
            return;
        }
    }
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    page.push_str(&format!("\n## `{name}`\n\n{about}\n"));
    let arguments: Vec<&clap::Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .collect();
    if arguments.is_empty() {
        return;
    }
    page.push_str("\n| option | default | meaning |\n|---|---|---|\n");
    for argument in arguments {
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let takes_value = argument.get_action().takes_values();
        let default = argument
            .get_default_values()
            .first()
            .filter(|_| takes_value)
            .map(|value| format!("`{}`", value.to_string_lossy()));
        let default = default.unwrap_or_else(|| {
            if argument.is_required_set() {
                "required".to_owned()
            } else {
                String::new()
            }
        });
        page.push_str(&format!(
            "| `{}` | {default} | {help} |\n",
            spelt(argument, takes_value)
        ));
    }
}

fn spelt(argument: &clap::Arg, takes_value: bool) -> String {
    let value = argument
        .get_value_names()
        .and_then(|names| names.first())
        .map(ToString::to_string)
        .unwrap_or_default();
    let value = if takes_value {
        format!("<{value}>")
    } else {
        String::new()
    };
    let long = argument.get_long().map(|long| format!("--{long}"));
    let short = argument.get_short().map(|short| format!("-{short}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    format!("{} {value}", names.join(", ")).trim().to_owned()
}

fn current(name: &str, made: &str) {
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "..",
        "..",
        "docs",
        "reference",
        name,
    ]
    .iter()
    .collect();
    if std::env::var_os("TANDEM_WRITE_DOCS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == made,
        "docs/reference/{name} is not current: TANDEM_WRITE_DOCS=1 cargo test -p tandem reference"
    );
}

#[test]
fn configuration_reference_is_current() {
    current("configuration.md", &reference_markdown());
}

#[test]
fn command_reference_is_current() {
    current("commands.md", &commands_markdown());
}

fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect()
}

fn files_below(dir: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(root().join(dir)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(!paths.is_empty(), "{dir}");
    paths
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

/// A configuration that a page shows must be one that the program takes.
#[test]
fn configurations_on_the_pages_are_read_without_errors() {
    let mut seen = 0;
    for (path, page) in files_below("docs/migrate", "md") {
        for block in page.split("```toml\n").skip(1) {
            let text = block.split("```").next().unwrap_or_default();
            let (settings, report) = tandem_config::settings::read(&path.to_string_lossy(), text);
            assert!(
                settings.is_some() && !report.has_errors(),
                "{}",
                report.render(false)
            );
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn pools_on_the_pages_are_read_without_errors() {
    let mut seen = 0;
    for (path, page) in files_below("docs/migrate", "md") {
        for block in page.split("```yaml\n").skip(1) {
            let text = block.split("```").next().unwrap_or_default();
            let name = path.to_string_lossy();
            let loaded = tandem_config::nutcracker::read(&name, text.as_bytes(), &|_, _| Ok(()));
            assert!(
                !loaded.report.has_errors() && loaded.memcached.is_empty(),
                "{}",
                loaded.report.render(false)
            );
            seen += 1;
        }
    }
    assert!(seen >= 1, "{seen}");
}

/// An alarm that no page explains is of no use to the person it wakes.
#[test]
fn every_alarm_is_on_the_page() {
    let page = std::fs::read_to_string(root().join("docs/operate/alarms.md")).unwrap();
    let mut seen = 0;
    for (path, source) in files_below("crates/tandem-core/src/keeper", "rs") {
        // `tell("name", Severity::Alarm, ...)`: the name is the last string before the severity.
        for (at, _) in source.match_indices("Severity::Alarm,") {
            let before = source[..at].trim_end().strip_suffix("\",");
            let Some(name) = before.and_then(|before| before.rsplit('"').next()) else {
                continue;
            };
            assert!(
                page.contains(&format!("`{name}`")),
                "{name} of {}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}
