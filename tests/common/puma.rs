//! Puma with the repository's scenarios.

use super::process::OwnServer;

/// The command that starts a scenario of `scenarios/puma/`.
pub(crate) fn puma(scenario: &str) -> Vec<String> {
    let folder = env!("CARGO_MANIFEST_DIR");
    let config = format!("{folder}/scenarios/puma/{scenario}/puma.rb");
    ["puma", "-C", &config].map(str::to_owned).to_vec()
}

/// Starts the `sleepy` cluster, which the probe then finds running, both workers booted.
pub(crate) fn sleepy_cluster(pidfile: &str) -> OwnServer {
    let mut command = puma("sleepy");
    command.extend(["--pidfile", pidfile].map(str::to_owned));
    OwnServer::start(&command, "booted in", 2)
}
