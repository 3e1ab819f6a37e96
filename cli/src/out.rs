//! What commands print. A reader that went away (`tidegate check … | head`) ends the printing, never the
//! program with a panic: its exit code still tells the outcome.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Prints to stdout.
pub(crate) fn print(text: Arguments<'_>) {
    if let Err(error) = std::io::stdout().lock().write_fmt(text)
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("tidegate: can't write to stdout: {error}");
    }
}

/// Prints a line like `println!`.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::out::print(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub(crate) use say;
