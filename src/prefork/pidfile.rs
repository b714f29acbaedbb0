//! The pid file: written whole once the server listens, taken away when the master ends. A live
//! server's is left alone.
#![expect(
    clippy::disallowed_methods,
    reason = "the server's pid file is read and written here"
)]

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getpid};

use crate::sys::reason;

/// Why the pid file cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidFileError {
    /// A process of that number lives.
    #[error(
        "the pid file {path} names process {pid}, which is alive; stop that, or give another \
         --pidfile"
    )]
    Live { path: PathBuf, pid: Pid },
    /// It holds something else.
    #[error(
        "{path} exists and holds no pid; remove it if it is of no use, or give another --pidfile"
    )]
    NoPid { path: PathBuf },
    /// It is a device, a pipe or the like.
    #[error(
        "{path} is no regular file, and a pid file would take its place; give another --pidfile"
    )]
    NoFile { path: PathBuf },
    /// It cannot be read or written.
    #[error("cannot write the pid file {path}: {reason}; give a path that may be written to")]
    Unwritable { path: PathBuf, reason: String },
}

/// A pid file of ours. It is taken away when this is dropped.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    /// What was in it: the pid of a server that is gone.
    pub(super) stale: Option<Pid>,
}

impl PidFile {
    /// Writes our pid to `path`.
    pub(super) fn write(path: &Path) -> Result<PidFile, PidFileError> {
        let unwritable = |error: std::io::Error| PidFileError::Unwritable {
            path: path.to_owned(),
            reason: reason(&error),
        };
        let stale = stale(path)?;
        // Renamed into place, so that nobody reads an empty one.
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(format!(".{}", getpid()));
        fs::write(&fresh, format!("{}\n", getpid())).map_err(unwritable)?;
        fs::rename(&fresh, path).map_err(|error| {
            let _ = fs::remove_file(&fresh);
            unwritable(error)
        })?;
        Ok(PidFile {
            path: path.to_owned(),
            stale,
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another server may have put its own in our file's place.
        if read(&self.path).ok().flatten() == Some(getpid()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The pid of a server that is gone, where a file is there already.
fn stale(path: &Path) -> Result<Option<Pid>, PidFileError> {
    let Some(pid) = read(path)? else {
        return Ok(None);
    };
    // In a container the server that is gone often had the number that we have.
    if pid == getpid() || kill(pid, None) == Err(Errno::ESRCH) {
        return Ok(Some(pid));
    }
    Err(PidFileError::Live {
        path: path.to_owned(),
        pid,
    })
}

/// The pid in a file; none where there is no file, or an empty one.
fn read(path: &Path) -> Result<Option<Pid>, PidFileError> {
    // A rename would take /dev/null away from everybody, and a pipe may never be read to its end.
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(PidFileError::NoFile {
            path: path.to_owned(),
        });
    }
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(PidFileError::NoPid {
                path: path.to_owned(),
            });
        }
        Err(error) => {
            return Err(PidFileError::Unwritable {
                path: path.to_owned(),
                reason: reason(&error),
            });
        }
    };
    match text.trim() {
        "" => Ok(None),
        word => match word.parse::<i32>() {
            Ok(pid) if pid > 0 => Ok(Some(Pid::from_raw(pid))),
            Ok(_) | Err(_) => Err(PidFileError::NoPid {
                path: path.to_owned(),
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_ours_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(file.stale, None);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", getpid())
        );
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_servers_pid_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        fs::write(&path, "1\n").unwrap();
        let error = PidFile::write(&path).unwrap_err();
        assert!(error.to_string().contains("process 1, which is alive"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_file_without_a_pid_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        for text in [&b"dear diary"[..], b"-1", b"0", b"\xff\xfe"] {
            fs::write(&path, text).unwrap();
            let error = PidFile::write(&path).unwrap_err();
            assert!(error.to_string().contains("holds no pid"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // As for /dev/null, which root could replace.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [pipe.as_path(), &link, folder.path()] {
            let before = fs::symlink_metadata(path).unwrap().file_type();
            let error = PidFile::write(path).unwrap_err();
            assert!(error.to_string().contains("no regular file"), "{error}");
            assert_eq!(fs::symlink_metadata(path).unwrap().file_type(), before);
        }
    }

    #[test]
    fn another_servers_pid_file_survives_us() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
    }
}
