//! Whose TCP makes connections, and what of that contradicts the rest.

use super::{PlanError, RequestSpec, refuse};
use crate::cli::{CloseArg, EngineArgs, EngineName, Format, JobArgs, Observe};
use crate::connect::raw::manner::{CloseBy, Does, Manner};

/// The shortest name that a run can have: a request's length counts it.
const SHORTEST_RUN_ID: &str = "20261123T000000-1";

/// Whose TCP makes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The kernel's.
    Socket,
    /// Our own, behaving so.
    Raw(Manner),
}

impl Engine {
    /// Whether connections ask for anything.
    pub(crate) fn asks(self) -> bool {
        match self {
            Engine::Socket => true,
            Engine::Raw(manner) => manner.does.asks(),
        }
    }
}

pub(super) fn engine(
    args: &JobArgs,
    request: &RequestSpec,
    triggered: bool,
) -> Result<Engine, PlanError> {
    let given = &args.engine;
    if given.engine == EngineName::Socket {
        return match only_raw(given) {
            Some(option) => refuse(format!(
                "{option} is beyond a socket; add --engine raw, or leave it out"
            )),
            None => Ok(Engine::Socket),
        };
    }
    if let Observe::Only { wire: false, .. } = args.observe {
        return refuse(
            "--engine raw watches by its packets; add wire to --observe, or leave out --engine raw",
        );
    }
    let manner = Manner {
        does: does(given, request, triggered)?,
        close: match given.close {
            None | Some(CloseArg::Fin) => CloseBy::Fin,
            Some(CloseArg::Rst) => CloseBy::Rst,
            Some(CloseArg::None) => CloseBy::Nothing,
        },
    };
    if args.output.format == Format::Heroku && !manner.does.asks() {
        return refuse(
            "--format heroku tells of requests and none is sent; give another --format, or leave \
             out --handshake-only and --syn-only",
        );
    }
    Ok(Engine::Raw(manner))
}

/// The first option that asks for what a socket cannot do.
fn only_raw(args: &EngineArgs) -> Option<&'static str> {
    [
        (args.handshake_only, "--handshake-only"),
        (args.syn_only, "--syn-only"),
        (args.split_request.is_some(), "--split-request"),
        (args.close.is_some(), "--close"),
    ]
    .into_iter()
    .find_map(|(given, option)| given.then_some(option))
}

fn does(args: &EngineArgs, request: &RequestSpec, triggered: bool) -> Result<Does, PlanError> {
    if args.handshake_only {
        return Ok(Does::Handshake);
    }
    if args.syn_only {
        return Ok(Does::Syn);
    }
    let Some(split) = args.split_request else {
        return Ok(Does::Ask);
    };
    if !triggered {
        return refuse(
            "--split-request sends the rest after the trigger and there is none; add --signal or \
             --trigger",
        );
    }
    let mut bytes = Vec::new();
    request.template("", SHORTEST_RUN_ID).render(1, &mut bytes);
    if split.first >= bytes.len() as u64 {
        return refuse(format!(
            "--split-request {} leaves nothing for later: the request may be no longer than {} bytes; \
             give fewer",
            split.first,
            bytes.len()
        ));
    }
    Ok(Does::Split {
        first: split.first,
        delay: split.delay,
    })
}
