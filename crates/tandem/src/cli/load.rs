//! Reading the configuration: all its errors at once, each with its place.

use std::io::IsTerminal as _;
use std::path::Path;

use tandem_config::settings::{Settings, read};

/// Reads a file. The error is the rendered report, ready to be printed.
pub(crate) fn load(path: &Path) -> Result<Settings, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("tandem: {name}: {error}; tandem init writes such a file, -c names another one\n")
    })?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (settings, report) = read(&name, &text);
    match settings {
        Some(settings) if !report.has_errors() => {
            let warnings = report.render(colour);
            if !warnings.is_empty() {
                eprint!("{warnings}");
            }
            Ok(settings)
        }
        Some(_) | None => Err(report.render(colour)),
    }
}
