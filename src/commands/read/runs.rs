//! Whose the sections of a capture are: a run's that recorded them itself and says so, or anybody's.

use crate::observe::capture::OfRun;
use crate::record::account::RunAccount;
use crate::report::Context;
use crate::report::words::plural;

/// The sections so far.
pub(super) struct Runs {
    /// What rows of anybody's capture are told.
    anybody: Context,
    /// The section under way, where it is a run's.
    current: Option<u32>,
    /// What the rows of the first run were told.
    first: Option<Context>,
    /// How many runs there were.
    runs: u64,
    /// Something was anybody's.
    mixed: bool,
}

/// A section that begins.
pub(super) struct Section {
    /// The run that recorded it.
    pub(super) run: Option<RunAccount>,
    /// What its rows are told.
    pub(super) context: Context,
}

impl Runs {
    /// Before the first frame everything is anybody's, and its rows are told `anybody`.
    pub(super) fn new(anybody: Context) -> Runs {
        Runs {
            anybody,
            current: None,
            first: None,
            runs: 0,
            mixed: false,
        }
    }

    /// Looks at whose the next frame is; says so where that changes.
    pub(super) fn section(&mut self, of: Option<OfRun<'_>>) -> Option<Section> {
        let section = of.map(|of| of.section);
        self.mixed |= section.is_none();
        if section == self.current {
            return None;
        }
        self.current = section;
        // What cannot be understood is anybody's.
        let run: Option<RunAccount> = of.and_then(|of| of.run.parse().ok());
        self.mixed |= run.is_none();
        let context = match &run {
            Some(run) => Context {
                run_id: run.run_id.clone(),
                // What the user says goes before what the run says.
                signal: self.anybody.signal.or(run.signal),
                target_dead: run.target_dead,
                ..Context::default()
            },
            None => self.anybody.clone(),
        };
        if run.is_some() {
            self.runs += 1;
            self.first.get_or_insert_with(|| context.clone());
        }
        Some(Section { run, context })
    }

    /// What the whole of it is told: what its only run is, else what the user says.
    pub(super) fn whole(&self) -> Context {
        match &self.first {
            Some(only) if self.runs == 1 && !self.mixed => only.clone(),
            _ => self.anybody.clone(),
        }
    }

    /// Which runs recorded it, for people to read; nothing where none did.
    pub(super) fn recorded_by(&self) -> Option<String> {
        let first = &self.first.as_ref()?.run_id;
        let others = match self.runs - 1 {
            0 => String::new(),
            n => format!(" and {n} other {}", plural(n, "run")),
        };
        Some(format!(
            "recorded by run {first}{others}, and read with what its sockets did"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Stamp;

    const RUN: &str = "probe.run format=1 run_id=a server=127.0.0.1:80 connections=5 \
                       protocol=http signal_unix_ns=7";

    fn of(section: u32, run: &str) -> Option<OfRun<'_>> {
        let socket = None;
        Some(OfRun {
            section,
            run,
            socket,
        })
    }

    fn file() -> Context {
        Context {
            run_id: "file".to_owned(),
            ..Context::default()
        }
    }

    #[test]
    fn a_run_names_its_rows_until_its_section_ends() {
        let mut runs = Runs::new(file());
        let begun = runs.section(of(1, RUN)).unwrap();
        assert_eq!(begun.context.run_id, "a");
        assert_eq!(begun.context.signal, Some(Stamp(7)));
        assert!(runs.section(of(1, RUN)).is_none());
        assert_eq!(runs.whole().run_id, "a");
        let other = runs.section(of(2, &RUN.replace("=a ", "=b "))).unwrap();
        assert_eq!(other.context.run_id, "b");
        assert_eq!(runs.whole().run_id, "file");
        let anybody = runs.section(None).unwrap();
        assert_eq!((anybody.run, anybody.context.run_id), (None, "file".into()));
        let said = runs.recorded_by().unwrap();
        assert!(
            said.starts_with("recorded by run a and 1 other run,"),
            "{said}"
        );
    }

    #[test]
    fn what_the_user_says_of_the_signal_goes_before() {
        let mut runs = Runs::new(Context {
            signal: Some(Stamp(3)),
            ..file()
        });
        let begun = runs.section(of(1, RUN)).unwrap();
        assert_eq!(begun.context.signal, Some(Stamp(3)));
    }

    #[test]
    fn a_run_that_cannot_be_understood_is_anybodys() {
        let mut runs = Runs::new(file());
        let begun = runs.section(of(1, "probe.run format=99")).unwrap();
        assert_eq!((begun.run, begun.context.run_id), (None, "file".into()));
        assert!(runs.section(None).is_some());
    }
}
