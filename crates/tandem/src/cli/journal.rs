//! Lines for journald: with the priority that it files them under, and without the time that it adds.
//!
//! A service's standard error is a stream to journald, which says so in the environment (systemd.exec(5), `JOURNAL_STREAM`)
//! and reads a priority from the start of each line (sd-daemon(3)). So `journalctl -u tandem -p err` shows the alarms.

use std::fmt;
use std::io;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Whether journald reads this process' standard error. One that was redirected since is somebody else's.
pub(crate) fn listens() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|named| {
        rustix::fs::fstat(io::stderr())
            .is_ok_and(|stream| named == format!("{}:{}", stream.st_dev, stream.st_ino))
    })
}

/// The form of such a line.
pub(crate) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// syslog(3): err, warning, info, debug.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_begins_with_its_priority_and_has_no_time() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(Lines)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("orders epoch 3@a -failover-abort why");
            tracing::info!("orders epoch 3@a +vip the addresses are here");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "<3>orders epoch 3@a -failover-abort why\n<6>orders epoch 3@a +vip the addresses are here\n"
        );
    }
}
