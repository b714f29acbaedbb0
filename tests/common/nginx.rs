//! nginx as a server under test that answers everything: in the foreground, for the probe to start
//! and stop.

use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

/// How long `/slow` takes: an answer is on its way for so long, and no thread is at it.
pub(crate) const SLOW_MS: u64 = 400;

/// A site and the folder that holds all it needs.
pub(crate) struct Nginx {
    folder: TempDir,
}

impl Nginx {
    /// A site on `address`: `/` is answered with a few bytes, `/large` with a body of `large` bytes,
    /// `/slow` with 401 after [`SLOW_MS`].
    pub(crate) fn on(address: SocketAddr, large: usize) -> Nginx {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path();
        fs::write(path.join("large"), vec![b'.'; large]).expect("a body");
        let here = path.display();
        // Without the temporary paths it would make folders outside of its own.
        let config = format!(
            "daemon off; user root; worker_processes 2; pid {here}/nginx.pid;
             error_log stderr warn;
             events {{ worker_connections 4096; }}
             http {{
               access_log off; sendfile on;
               client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;
               fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi;
               scgi_temp_path {here}/scgi;
               server {{
                 listen {address} backlog=4096;
                 location = / {{ return 200 \"hello\\n\"; }}
                 location = /large {{ root {here}; }}
                 location = /slow {{
                   auth_basic probe; auth_basic_user_file nobody; auth_delay {SLOW_MS}ms;
                 }}
               }}
             }}"
        );
        fs::write(path.join("nginx.conf"), config).expect("a configuration");
        Nginx { folder }
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Vec<String> {
        let config = self.folder.path().join("nginx.conf");
        ["nginx", "-c", &config.to_string_lossy(), "-e", "stderr"]
            .map(str::to_owned)
            .to_vec()
    }
}
