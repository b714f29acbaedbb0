//! Whose TCP makes connections, and what of that contradicts the rest.

use nix::unistd::getpid;

use super::{PlanError, RequestSpec, refuse};
use crate::cli::{CloseArg, EngineArgs, EngineName, Format, JobArgs, Observe};
use crate::connect::raw::manner::{CloseBy, Does, Manner};

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

/// The engine of connections to `host`, which is empty where it is not known.
pub(super) fn engine(
    args: &JobArgs,
    request: &RequestSpec,
    host: &str,
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
        does: does(given, request, host, triggered)?,
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

/// How long the request of the first connection is at least: the run's name may have more to it, and
/// where the server listens may not be known.
fn shortest(request: &RequestSpec, host: &str) -> u64 {
    let run_id = format!("20261123T000000-{}", getpid());
    let mut bytes = Vec::new();
    request.template(host, &run_id).render(1, &mut bytes);
    bytes.len() as u64
}

fn does(
    args: &EngineArgs,
    request: &RequestSpec,
    host: &str,
    triggered: bool,
) -> Result<Does, PlanError> {
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
    let least = shortest(request, host);
    if split.first >= least {
        let length = match request {
            RequestSpec::Generated { .. } => {
                "before the run all that is sure of its length is that it has at least"
            }
            RequestSpec::File(_) | RequestSpec::Payload(..) => "it has",
        };
        return refuse(format!(
            "--split-request {} may leave nothing of the request for later: {length} {least} bytes; give \
             fewer",
            split.first
        ));
    }
    Ok(Does::Split {
        first: split.first,
        delay: split.delay,
    })
}
