//! What the runs of a series are called: in run ids, folders and errors.

use std::path::PathBuf;

use anyhow::Error;

/// Which run of a series; a run that is alone has neither label nor number.
pub(super) struct RunName {
    label: Option<String>,
    number: Option<String>,
}

impl RunName {
    pub(super) fn new(label: Option<&String>, number: u64, repeat: u64) -> RunName {
        let width = repeat.to_string().len().max(3);
        RunName {
            label: label.cloned(),
            number: (repeat > 1).then(|| format!("{number:0width$}")),
        }
    }

    fn parts(&self) -> impl Iterator<Item = &String> {
        self.label.iter().chain(&self.number)
    }

    /// Its folder in --out's.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        let path: PathBuf = self.parts().collect();
        (path != PathBuf::new()).then_some(path)
    }

    pub(super) fn run_id(&self, stem: &str) -> String {
        self.parts()
            .fold(stem.to_owned(), |id, part| format!("{id}-{part}"))
    }

    /// An error, and which run it is of.
    pub(super) fn blame(&self, error: Error) -> Error {
        match self.spoken() {
            Some(name) => error.context(name),
            None => error,
        }
    }

    /// As in `run close-003`.
    pub(super) fn spoken(&self) -> Option<String> {
        let parts: Vec<&str> = self.parts().map(String::as_str).collect();
        (!parts.is_empty()).then(|| format!("run {}", parts.join("-")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(label: Option<&str>, number: u64, repeat: u64) -> RunName {
        RunName::new(label.map(str::to_owned).as_ref(), number, repeat)
    }

    #[test]
    fn names_say_what_tells_a_run_from_the_others() {
        for (name, run_id, folder) in [
            (named(None, 1, 1), "t-1", None),
            (named(None, 3, 5), "t-1-003", Some("003")),
            (named(None, 3, 2_000), "t-1-0003", Some("0003")),
            (named(Some("close"), 1, 1), "t-1-close", Some("close")),
            (
                named(Some("close"), 3, 5),
                "t-1-close-003",
                Some("close/003"),
            ),
        ] {
            assert_eq!(name.run_id("t-1"), run_id);
            assert_eq!(name.folder(), folder.map(PathBuf::from));
        }
    }
}
