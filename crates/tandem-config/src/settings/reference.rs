//! The reference page of `tandem.toml`, made from the table of keys.

use super::table::{KEYS, Presence, SECTIONS};

/// The reference of every section and key as Markdown: what `docs/` shows, and a test compares.
pub fn reference_markdown() -> String {
    let mut page =
        String::from("# tandem.toml\n\nEvery key of the file. Unknown keys are errors.\n");
    for section in SECTIONS {
        page.push_str(&format!(
            "\n## `{}`\n\n{}\n\n| key | value | default | meaning |\n|---|---|---|---|\n",
            section.header(),
            section.doc
        ));
        for key in KEYS.iter().filter(|key| key.section() == section.path) {
            let default = match key.presence {
                Presence::Required => "required".to_owned(),
                Presence::Optional => "none".to_owned(),
                Presence::Default(value) => format!("`{value}`"),
                Presence::Later(_) => continue,
            };
            page.push_str(&format!(
                "| `{}` | {} | {default} | {} |\n",
                key.name(),
                key.kind,
                key.doc
            ));
        }
    }
    page.push_str("\n## Not in this version\n\nThese are recognised and refused.\n\n| key | instead |\n|---|---|\n");
    for key in KEYS {
        if let Presence::Later(instead) = key.presence {
            page.push_str(&format!("| `{}` | {instead} |\n", key.path));
        }
    }
    page
}
