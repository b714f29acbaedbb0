//! The kernel's tracefs: where it is mounted, or a mount of our own that is attached nowhere and goes
//! with its descriptor. Which files are read and written is left to [`instance`](super::instance).
#![expect(clippy::disallowed_types, reason = "tracefs is reached by its files")]

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use procfs::FromBufRead;
use procfs::process::MountInfos;
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::TraceMissing;

/// The root of tracefs.
#[derive(Debug)]
pub(super) struct Tracefs {
    pub(super) root: OwnedFd,
    /// How it is called in messages.
    pub(super) name: String,
}

impl Tracefs {
    /// Opens it where it is mounted, else by a mount that nobody else sees.
    pub(super) fn open() -> Result<Tracefs, TraceMissing> {
        let mut refused = None;
        for path in mounted().unwrap_or_default() {
            match Tracefs::at(&path) {
                Ok(found) => return Ok(found),
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        Tracefs::detached().map_err(|error| refused.unwrap_or(error))
    }

    fn at(path: &Path) -> Result<Tracefs, TraceMissing> {
        let name = path.display().to_string();
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(root) => Ok(Tracefs { root, name }),
            Err(error) => Err(TraceMissing::new("open", name, error)),
        }
    }

    /// Mounts it where nothing can see it: once the descriptor is closed it is gone.
    pub(super) fn detached() -> Result<Tracefs, TraceMissing> {
        let mount = || {
            let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&context)?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        };
        match mount() {
            Ok(root) => Ok(Tracefs {
                root,
                name: "tracefs".to_owned(),
            }),
            Err(error) => Err(TraceMissing::new("mount", "tracefs".to_owned(), error)),
        }
    }
}

/// Where it is mounted in this thread's mount name space.
fn mounted() -> io::Result<Vec<PathBuf>> {
    let file = File::open("/proc/thread-self/mountinfo")?;
    let mounts = MountInfos::from_buf_read(BufReader::new(file)).map_err(io::Error::other)?;
    let whole = mounts
        .into_iter()
        .filter(|mount| mount.fs_type == "tracefs" && mount.root == "/");
    Ok(whole.map(|mount| mount.mount_point).collect())
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};
    use rustix::fs::{AtFlags, statat};
    use rustix::mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
    };

    use super::*;

    /// Has this thread see no tracefs. Nothing of this reaches the host.
    fn unmount_here() {
        unshare(CloneFlags::CLONE_NEWNS).expect("needs root: unshare(CLONE_NEWNS)");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        for path in mounted().unwrap() {
            unmount(&path, UnmountFlags::DETACH).unwrap();
        }
        assert_eq!(mounted().unwrap(), Vec::<PathBuf>::new());
    }

    fn has_events(tracefs: &Tracefs) -> bool {
        statat(&tracefs.root, "events/tcp", AtFlags::empty()).is_ok()
    }

    #[test]
    #[ignore = "needs root, tracefs"]
    fn tracefs_is_used_where_it_is_mounted_and_needs_no_mount_point() {
        unmount_here();
        let detached = Tracefs::open().unwrap();
        assert!(has_events(&detached));
        assert_eq!(mounted().unwrap(), Vec::<PathBuf>::new());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        mount("nodev", path, "tracefs", MountFlags::empty(), None).unwrap();
        let found = Tracefs::open().unwrap();
        assert_eq!(found.name, path.display().to_string());
        assert!(has_events(&found));
        unmount(path, UnmountFlags::DETACH).unwrap();
    }
}
