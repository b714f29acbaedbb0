//! Puma and Gunicorn with an application of the test's own, whose requests take as many milliseconds as
//! their path says: two workers that serve one request at a time.
#![expect(clippy::disallowed_methods, reason = "tests write the servers' files")]

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::process::OwnServer;

const RACKUP: &str = r#"
run lambda { |env|
  sleep env["PATH_INFO"].delete_prefix("/").to_i / 1000.0
  [200, { "content-type" => "text/plain" }, ["done\n"]]
}
"#;

const WSGI: &str = r#"
import time

def app(environ, start_response):
    time.sleep(int(environ["PATH_INFO"][1:] or 0) / 1000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done\n"]
"#;

/// A server and the folder that holds its files.
pub(crate) struct Slow {
    server: OwnServer,
    _folder: TempDir,
}

impl Slow {
    /// A cluster of Puma's, both workers booted.
    pub(crate) fn puma(port: u16) -> Slow {
        let config = format!(
            "rackup File.expand_path('config.ru', __dir__)
             environment 'production'
             bind 'tcp://127.0.0.1:{port}'
             workers 2
             threads 1, 1\n"
        );
        let files = [("config.ru", RACKUP), ("puma.rb", &config)];
        Slow::start(&files, &["puma", "-C"], "puma.rb")
    }

    /// Gunicorn with its default kind of workers, both booted.
    pub(crate) fn gunicorn(port: u16) -> Slow {
        let config = format!(
            "import os, sys
bind = '127.0.0.1:{port}'
workers = 2
pythonpath = os.path.dirname(os.path.abspath(__file__))
wsgi_app = 'app:app'
loglevel = 'error'
def post_worker_init(worker):
    os.write(1, b'booted in\\n')
"
        );
        let files = [("app.py", WSGI), ("gunicorn.conf.py", &config)];
        Slow::start(&files, &["gunicorn", "-c"], "gunicorn.conf.py")
    }

    fn start(files: &[(&str, &str)], program: &[&str], config: &str) -> Slow {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |file: &str| -> String { folder.path().join(file).to_string_lossy().into() };
        for (file, text) in files {
            fs::write(Path::new(&path(file)), text).expect("the file is written");
        }
        let mut command: Vec<String> = program.iter().map(|&word| word.to_owned()).collect();
        command.push(path(config));
        let server = OwnServer::start(&command, "booted in", 2);
        Slow {
            server,
            _folder: folder,
        }
    }

    /// The master's number.
    pub(crate) fn pid(&self) -> i32 {
        self.server.pid().as_raw()
    }
}
