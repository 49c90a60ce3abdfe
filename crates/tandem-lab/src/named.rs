//! Values that the command line and results know by their names.

/// The one of `all` that is called `name`.
///
/// # Errors
/// For any other name, with those that there are; `what` is the word for them.
pub(crate) fn parse<T: Copy, N: ToString>(
    what: &str,
    all: &[T],
    name_of: impl Fn(T) -> N,
    name: &str,
) -> Result<T, String> {
    let names: Vec<String> = all.iter().map(|one| name_of(*one).to_string()).collect();
    match names.iter().position(|known| known == name) {
        Some(place) => Ok(all[place]),
        None => Err(format!(
            "no {what} `{name}`; there are {}",
            names.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_answered_with_those_that_there_are() {
        let all = [1, 22];
        assert_eq!(parse("number", &all, |one| one, "22"), Ok(22));
        assert_eq!(
            parse("number", &all, |one| one, "2"),
            Err("no number `2`; there are 1, 22".to_owned())
        );
    }
}
