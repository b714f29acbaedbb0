//! A checked comparison: what is held against what, and how strictly.

use std::path::{Path, PathBuf};

use super::{PlanError, read, refuse, spare};
use crate::cli::CompareArgs;
use crate::reconcile::Strictness;
use crate::record::ServerSide;

/// Everything that comparing needs to know.
#[derive(Debug)]
pub(crate) struct ComparePlan {
    /// A run's folder, its rows, or a capture.
    pub(crate) run: PathBuf,
    /// The capture; nothing where it is stdin.
    pub(crate) capture: Option<PathBuf>,
    /// Which end is the server, where that was said.
    pub(crate) side: Option<ServerSide>,
    /// What is compared.
    pub(crate) strictness: Strictness,
    /// Where a row for each connection goes.
    pub(crate) csv: Option<PathBuf>,
    /// Whether nothing is printed.
    pub(crate) quiet: bool,
}

impl ComparePlan {
    /// Checks what was typed.
    pub(crate) fn check(args: CompareArgs) -> Result<ComparePlan, PlanError> {
        if args.run == Path::new("-") {
            return refuse("a run is no stream; give its folder or a file, and - for the capture");
        }
        if let Some(csv) = &args.csv {
            let rows = args.run.join("connections.csv");
            let packets = args.run.join("run.pcapng");
            spare(csv, &[&args.run, &rows, &packets, &args.capture])?;
        }
        let side = read::side(&args.side)?;
        Ok(ComparePlan {
            side: Some(side).filter(|side| *side != ServerSide::FromSyns),
            strictness: if args.across_interfaces {
                Strictness::AcrossInterfaces
            } else {
                Strictness::SameInterface
            },
            csv: args.csv,
            quiet: args.quiet,
            run: args.run,
            capture: Some(args.capture).filter(|file| file.as_os_str() != "-"),
        })
    }
}
