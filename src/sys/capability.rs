//! Capabilities, and how to get the ones that are missing. CAP_NET_RAW opens packet sockets: the
//! wire vantage needs it and nothing else does.

/// What to tell somebody who may not open packet sockets.
pub(crate) fn how_to_get_net_raw() -> String {
    let binary = std::env::current_exe()
        .map_or_else(|_| "probe".to_owned(), |path| path.display().to_string());
    format!("CAP_NET_RAW (sudo setcap cap_net_raw+ep {binary})")
}
