//! Waiting for a condition with a bound: the only way in which the lab waits.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Asks `question` every `every` until it yields a value, for at most `bound`.
///
/// The question answers `Ok(Ok(value))` when the wait is over, `Ok(Err(reason))` to be asked again, and `Err` to
/// give up at once.
///
/// # Errors
/// The question's own error, or after `bound` an error with `what` and the last reason.
pub fn until<T>(
    what: &str,
    bound: Duration,
    every: Duration,
    mut question: impl FnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + bound;
    loop {
        match question()? {
            Ok(value) => return Ok(value),
            Err(reason) if Instant::now() >= deadline => {
                bail!("waited {bound:?} for {what}: {reason}")
            }
            Err(_) => std::thread::sleep(every),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yields_the_value_once_there_is_one() {
        let mut asked = 0;
        let value = until(
            "a third question",
            Duration::from_secs(5),
            Duration::ZERO,
            || {
                asked += 1;
                Ok(if asked == 3 {
                    Ok(asked)
                } else {
                    Err("not yet".to_owned())
                })
            },
        );
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn the_last_reason_is_in_the_error() {
        let error = until::<()>("nothing", Duration::ZERO, Duration::ZERO, || {
            Ok(Err("still dark".to_owned()))
        });
        assert!(
            error
                .unwrap_err()
                .to_string()
                .ends_with("for nothing: still dark")
        );
    }

    #[test]
    fn an_error_ends_the_wait() {
        let mut asked = 0;
        let result = until::<()>("an error", Duration::from_secs(60), Duration::ZERO, || {
            asked += 1;
            bail!("broken")
        });
        assert!(result.is_err());
        assert_eq!(asked, 1);
    }
}
