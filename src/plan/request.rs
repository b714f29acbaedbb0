//! What is sent: one request, generated or from a file, or bytes that are no HTTP.

use std::path::Path;

use super::{PlanError, read, refuse};
use crate::cli::{Header, JobArgs};
use crate::connect::Content;
use crate::connect::request::{Generated, Template};
use crate::flow::Protocol;
use crate::http::{Asked, RequestReader};

/// A request from a file is held whole, once.
const MAX_REQUEST: u64 = 64 << 20;

/// What is sent on each connection.
#[derive(Clone, Debug)]
pub(crate) enum RequestSpec {
    /// A request of our own making.
    Generated {
        method: String,
        path: String,
        headers: Vec<(String, String)>,
    },
    /// An HTTP request from a file.
    File(Vec<u8>),
    /// Bytes that are no HTTP, and how many are expected back.
    Payload(Vec<u8>, Option<u64>),
}

impl RequestSpec {
    /// The template of it for `host`.
    pub(crate) fn template(&self, host: &str, run_id: &str) -> Template {
        match self {
            RequestSpec::Generated {
                method,
                path,
                headers,
            } => Template::generated(&Generated {
                method,
                path,
                host,
                headers,
                run_id,
            }),
            RequestSpec::File(bytes) | RequestSpec::Payload(bytes, _) => {
                Template::verbatim(bytes.clone())
            }
        }
    }

    /// What the socket is to expect back.
    pub(crate) fn content(&self) -> Content {
        match self {
            RequestSpec::Generated { method, .. } => Content::Http(Asked::by(method.as_bytes())),
            RequestSpec::File(bytes) => {
                let method = bytes.split(|&b| b == b' ').next().unwrap_or_default();
                Content::Http(Asked::by(method))
            }
            &RequestSpec::Payload(_, expect) => Content::Bytes { expect },
        }
    }

    /// What the wire is to expect.
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            RequestSpec::Generated { .. } | RequestSpec::File(_) => Protocol::Http,
            &RequestSpec::Payload(_, expect) => Protocol::Opaque { expect },
        }
    }
}

pub(super) fn request(args: &JobArgs) -> Result<RequestSpec, PlanError> {
    let filled = |file: &Path, option: &str| {
        let bytes = read(file, option, MAX_REQUEST)?;
        if bytes.is_empty() {
            return refuse(format!(
                "{option} {} is empty; put the bytes to send in it",
                file.display()
            ));
        }
        Ok(bytes)
    };
    if let Some(file) = &args.request {
        let bytes = filled(file, "--request")?;
        only_request(&bytes, file)?;
        return Ok(RequestSpec::File(bytes));
    }
    if let Some(file) = &args.payload {
        return Ok(RequestSpec::Payload(
            filled(file, "--payload")?,
            args.expect_bytes,
        ));
    }
    let pair = |header: &Header| (header.name.clone(), header.value.clone());
    Ok(RequestSpec::Generated {
        method: args.method.clone(),
        path: args.path.clone(),
        headers: args.header.iter().map(pair).collect(),
    })
}

/// Refuses what is no HTTP request, and more than one: a connection carries one.
fn only_request(bytes: &[u8], file: &Path) -> Result<(), PlanError> {
    let mut reader = RequestReader::default();
    let is_http = reader.push(bytes, &mut |_| {});
    let name = file.display();
    match reader.requests() {
        1 if is_http => Ok(()),
        0 | 1 => refuse(format!(
            "--request {name} is no HTTP/1 request; mend it, or send it with --payload"
        )),
        n => refuse(format!(
            "--request {name} holds {n} requests and a connection carries one; leave one in it"
        )),
    }
}
