//! Writes an error with its causes on one line.

use std::{error::Error, fmt};

use tracing::field::{self, DisplayValue};

/// An error with its causes as the value of a log field: `warn!(error = chain(&error), "…")`.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> DisplayValue<Chain<'a>> {
    field::display(Chain(error))
}

/// Displays an error with its causes; see [`chain`].
pub struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&error_chain(self.0))
    }
}

/// An error and its causes in one line, for logs and reasons.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        // Some errors include the text of their cause.
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        cause = error.source();
    }
    text
}
