//! Puma with the repository's scenarios.

/// The command that starts a scenario of `scenarios/puma/`.
pub(crate) fn puma(scenario: &str) -> Vec<String> {
    let folder = env!("CARGO_MANIFEST_DIR");
    let config = format!("{folder}/scenarios/puma/{scenario}/puma.rb");
    ["puma", "-C", &config].map(str::to_owned).to_vec()
}
