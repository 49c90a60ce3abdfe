//! Chores of the repository that need logic: `cargo run -p xtask -- tidy`, `cargo run -p xtask -- commands`.
//!
//! `commands` makes the proxy's table of commands.
//! `tidy` is house style as a check: file sizes, words that this project does not use, unfinished marks, links of the
//! documents that lead nowhere. The same check runs as a test.

mod commands;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Above this a file of logic is to be cut by concern.
const LINES_MAX: usize = 700;
/// Marks of unfinished work.
const UNFINISHED: [&str; 4] = ["todo!(", "unimplemented!(", "FIXME", "XXX"];
/// Words that stand for something else here (see the glossary in CONTRIBUTING.md).
const BANNED: [&str; 3] = ["heartbeat", "floating ip", "slave node"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("commands") => match commands::run(&root(), &words[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!("xtask: {problem}");
                ExitCode::FAILURE
            }
        },
        Some("tidy") => {
            let findings = tidy(&root());
            for finding in &findings {
                eprintln!("{finding}");
            }
            if findings.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        other => {
            eprintln!("xtask: {other:?} is no chore; there are: tidy, commands");
            ExitCode::from(2)
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Everything that is not as it should be, a line each.
fn tidy(root: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files(root) {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        match file.extension().and_then(|e| e.to_str()) {
            Some("rs") if !name.starts_with("xtask") => check_rust(&name, &text, &mut findings),
            Some("md") => check_links(&file, &name, &text, &mut findings),
            _ => {}
        }
    }
    findings
}

fn check_rust(name: &str, text: &str, findings: &mut Vec<String>) {
    let lines = text.lines().count();
    let is_table = name.ends_with("table.rs") || name.ends_with("keywords.rs");
    if lines > LINES_MAX && !is_table && !name.contains("/tests/") {
        findings.push(format!("{name}: {lines} lines; cut it by concern"));
    }
    for (number, line) in text.lines().enumerate() {
        for mark in UNFINISHED {
            if line.contains(mark) {
                findings.push(format!("{name}:{}: unfinished: {mark}", number + 1));
            }
        }
        let lower = line.to_lowercase();
        for word in BANNED {
            if lower.contains(word) {
                findings.push(format!(
                    "{name}:{}: \"{word}\" is not our word for it",
                    number + 1
                ));
            }
        }
    }
}

/// Links to files of the repository must lead somewhere.
fn check_links(file: &Path, name: &str, text: &str, findings: &mut Vec<String>) {
    let dir = file.parent().unwrap_or(file);
    for (number, line) in text.lines().enumerate() {
        for part in line.split("](").skip(1) {
            let Some(target) = part.split(')').next() else {
                continue;
            };
            let target = target.split('#').next().unwrap_or(target);
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !dir.join(target).exists() {
                findings.push(format!(
                    "{name}:{}: link to {target} leads nowhere",
                    number + 1
                ));
            }
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let findings = tidy(&root());
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn an_untidy_file_is_found() {
        let mut findings = Vec::new();
        check_rust("a.rs", "// FIXME\nlet heartbeat = 1;\n", &mut findings);
        assert_eq!(findings.len(), 2, "{findings:?}");
        check_rust("long.rs", &"x\n".repeat(LINES_MAX + 1), &mut findings);
        assert_eq!(findings.len(), 3, "{findings:?}");
    }
}
