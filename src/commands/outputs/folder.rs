//! --out's folder, and in it one for each run of a series: made, filled, and left without a trace where
//! nothing was measured.
#![expect(clippy::disallowed_types, reason = "output files are opened here")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{LogFile, OpenOutputs, PacketFile, Writers, add, create, csv, events, lines};
use crate::sys::reason;

/// The files of one run besides those that records go to.
#[derive(Default)]
pub(in crate::commands) struct RunFiles {
    /// run.json.
    pub(in crate::commands) run: Option<(PathBuf, File)>,
    /// server.log.
    pub(in crate::commands) log: Option<LogFile>,
    /// run.pcapng, where packets are seen.
    pub(in crate::commands) pcap: Option<PacketFile>,
    /// Its folder.
    folder: Option<PathBuf>,
    made: Made,
}

/// Files and folders of our own making in --out's folder, in the order in which they were made.
#[derive(Default)]
pub(super) struct Made(Vec<PathBuf>);

impl Made {
    pub(super) fn discard(self) {
        for path in self.0.iter().rev() {
            // It may have been moved meanwhile; then it is in nobody's way. A folder that holds
            // something else stays.
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
    }

    pub(super) fn file(&mut self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        self.0.push(path.clone());
        path
    }
}

impl OpenOutputs {
    /// Opens the files of a run. In a folder `below` --out's it has all of its own; without one it
    /// writes to those of the series, and gets what these lack.
    pub(in crate::commands) fn open_run(
        &mut self,
        below: Option<&Path>,
        server_log: bool,
    ) -> Result<RunFiles> {
        let mut files = RunFiles::default();
        match self.open_run_in(&mut files, below, server_log) {
            Ok(()) => Ok(files),
            Err(error) => {
                self.discard_run(files);
                Err(error)
            }
        }
    }

    fn open_run_in(
        &mut self,
        files: &mut RunFiles,
        below: Option<&Path>,
        server_log: bool,
    ) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let made = &mut files.made;
        let mut own = folder.clone();
        for name in below.into_iter().flatten() {
            own.push(name);
            made.0.push(own.clone());
        }
        if below.is_some() {
            make_folder(&own)?;
            let mut writers = Writers::default();
            writers.add_folder(&own, made)?;
            self.writers.begin_run(writers);
        }
        let run = made.file(&own, "run.json");
        files.run = Some((run.clone(), create(&run)?));
        if server_log {
            files.log = Some(create(&made.file(&own, "server.log"))?);
        }
        files.folder = Some(own);
        Ok(())
    }

    /// Takes the files of a run away again: it never began.
    pub(in crate::commands) fn discard_run(&mut self, files: RunFiles) {
        self.writers.end_run();
        files.made.discard();
    }
}

impl RunFiles {
    /// Opens run.pcapng, where there is a folder for it: packets are going to be seen.
    pub(in crate::commands) fn open_pcap(&mut self) -> Result<()> {
        if let Some(folder) = &self.folder {
            let path = self.made.file(folder, "run.pcapng");
            self.pcap = Some(PacketFile::open(&path)?);
        }
        Ok(())
    }

    /// Whether the run has a folder.
    pub(in crate::commands) fn have_folder(&self) -> bool {
        self.folder.is_some()
    }
}

impl Writers {
    /// Adds those of --out's folder, or of a run's folder in it.
    pub(super) fn add_folder(&mut self, folder: &Path, made: &mut Made) -> Result<()> {
        let mut file = |name| Some(made.file(folder, name));
        add(&mut self.csv, file("connections.csv").as_ref(), csv)?;
        add(&mut self.events, file("events.csv").as_ref(), events)?;
        add(&mut self.json, file("connections.ndjson").as_ref(), lines)?;
        Ok(())
    }
}

/// Makes a folder, or takes one that is empty.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| {
        anyhow::anyhow!(
            "cannot make the folder {}: {}; give a path that may be written to",
            folder.display(),
            reason(&error)
        )
    })?;
    let mut entries = fs::read_dir(folder).map_err(|error| {
        anyhow::anyhow!("cannot look into {}: {}", folder.display(), reason(&error))
    })?;
    if entries.next().is_some() {
        bail!(
            "the folder {} is not empty; give a new one, so that runs do not mix",
            folder.display()
        );
    }
    Ok(())
}
