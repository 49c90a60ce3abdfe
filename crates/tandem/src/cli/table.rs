//! Tables for people: columns by width, no lines, nothing that a terminal could take for a command.

use comfy_table::{ContentArrangement, Table};

/// A table with a header. Control characters in cells are shown escaped.
pub(crate) fn table<R>(header: &[&str], rows: R) -> String
where
    R: IntoIterator<Item = Vec<String>>,
{
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    format!("{}\n", table.trim_fmt())
}

/// The text without control characters: what came from a file or a server must not move a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped: Box<dyn Iterator<Item = char>> = if c.is_control() {
                Box::new(c.escape_default())
            } else {
                Box::new(std::iter::once(c))
            };
            escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_characters_are_shown() {
        let text = table(
            &["A", "B"],
            [
                vec!["long cell".to_owned(), "x\x1b[2J".to_owned()],
                vec!["b".to_owned(), "y".to_owned()],
            ],
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].find('B'), lines[2].find('y'));
        assert!(lines[1].ends_with("x\\u{1b}[2J"), "{text}");
    }
}
