//! Capabilities, and how to get the ones that are missing. CAP_NET_RAW opens packet sockets: the
//! wire vantage needs it and nothing else does. CAP_NET_ADMIN filters what a listening socket takes,
//! on kernels that ask for it: the server that stops behind a filter needs it and nothing else does.

/// What to tell somebody who may not open packet sockets.
pub(crate) fn how_to_get_net_raw() -> String {
    how_to_get("CAP_NET_RAW", "cap_net_raw")
}

/// What to tell somebody who may not filter a listening socket.
pub(crate) fn how_to_get_net_admin() -> String {
    how_to_get("CAP_NET_ADMIN", "cap_net_raw,cap_net_admin")
}

/// Setting capabilities takes away those that are not named.
fn how_to_get(name: &str, all: &str) -> String {
    let binary = std::env::current_exe()
        .map_or_else(|_| "probe".to_owned(), |path| path.display().to_string());
    format!("{name} (sudo setcap {all}+ep {binary})")
}
