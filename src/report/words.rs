//! Numbers and spans of time as sentences and tables have them.

/// The word for `n` of them.
pub(crate) fn plural(n: u64, word: &str) -> String {
    if n == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

/// Milliseconds with one decimal, from nanoseconds.
pub(crate) fn millis(ns: i64) -> String {
    let tenths = ns / 100_000;
    format!("{}.{} ms", tenths / 10, (tenths % 10).abs())
}

/// The same with its sign, whichever it is.
pub(crate) fn signed_millis(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "+" };
    format!("{sign}{}", millis(ns.saturating_abs()))
}
