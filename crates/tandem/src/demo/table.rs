//! The table at the end: a row per fault, and beside it what the other set-up did.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table};

use super::act::Row;

/// Renders the rows; with `beside`, its columns follow in the rows of the same faults.
pub(super) fn render(rows: &[Row], beside: Option<(&str, &[Row])>) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    let mut header: Vec<String> = [
        "FAULT",
        "LONGEST GAP",
        "ERRORS",
        "ACKNOWLEDGED",
        "LOST",
        "ARCHIVED",
        "BY ITSELF",
    ]
    .map(str::to_owned)
    .to_vec();
    if let Some((name, _)) = beside {
        let name = name.to_uppercase();
        header.extend([
            format!("{name}: GAP"),
            "LOST".to_owned(),
            "BY ITSELF".to_owned(),
        ]);
    }
    table.set_header(header);
    for row in rows {
        let mut cells = vec![
            row.fault.to_string(),
            gap(row.gap),
            row.errors.to_string(),
            row.acknowledged.to_string(),
            row.lost.to_string(),
            row.archived.to_string(),
            yes(row.by_itself),
        ];
        if let Some((_, others)) = beside {
            cells.extend(match others.iter().find(|other| other.fault == row.fault) {
                Some(other) => [gap(other.gap), share(other), yes(other.by_itself)],
                None => ["-".to_owned(), "-".to_owned(), "-".to_owned()],
            });
        }
        table.add_row(cells);
    }
    format!(
        "{}\n\nGap: the longest time without an acknowledged write. Lost: acknowledged, and in the end neither on the \
         primary nor archived.\nArchived: acknowledged by the side that lost the verdict after a cut; tandem archive \
         replay brings them back.",
        table.trim_fmt()
    )
}

fn gap(gap: Option<Duration>) -> String {
    gap.map_or_else(
        || "for good".to_owned(),
        |gap| format!("{:.1} ms", gap.as_secs_f64() * 1000.0),
    )
}

/// Lost writes of another set-up, as a share where there are any.
fn share(row: &Row) -> String {
    if row.lost == 0 || row.acknowledged == 0 {
        return row.lost.to_string();
    }
    format!(
        "{} ({} %)",
        row.lost,
        (100 * row.lost).div_ceil(row.acknowledged)
    )
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "NO" }.to_owned()
}

#[cfg(test)]
mod tests {
    use tandem_lab::arrangement::Fault;

    use super::*;

    fn row(fault: Fault, gap_ms: Option<u64>, lost: usize) -> Row {
        Row {
            fault,
            gap: gap_ms.map(Duration::from_millis),
            errors: 3,
            acknowledged: 1000,
            lost,
            archived: 7,
            by_itself: lost == 0,
        }
    }

    #[test]
    fn both_columns_stand_in_the_row_of_their_fault() {
        let own = [
            row(Fault::KillServer, Some(9), 0),
            row(Fault::Switchover, Some(12), 0),
        ];
        let other = [row(Fault::KillServer, None, 441)];
        let text = render(&own, Some(("keepalived", &other)));
        let line = |name: &str| {
            text.lines()
                .find(|line| line.trim().starts_with(name))
                .unwrap()
        };
        assert!(text.contains("KEEPALIVED: GAP"), "{text}");
        for part in ["9.0 ms", "1000", "for good", "441 (45 %)", "NO"] {
            assert!(line("kill").contains(part), "{part} is missing in\n{text}");
        }
        assert!(line("switchover").contains(" - "), "{text}");
        assert!(!render(&own, None).contains("KEEPALIVED"));
    }
}
