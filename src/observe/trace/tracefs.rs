//! The kernel's tracefs: where it is mounted, or a mount of our own that is attached nowhere and goes
//! with its descriptor. Which files are read and written is left to [`instance`](super::instance).
#![expect(clippy::disallowed_types, reason = "tracefs is reached by its files")]

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use procfs::FromBufRead;
use procfs::process::MountInfos;
use rustix::fs::{FsWord, Mode, OFlags, fstatfs, open};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::TraceMissing;

/// As fstatfs() has it (include/uapi/linux/magic.h).
const TRACEFS_MAGIC: FsWord = 0x7472_6163;

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
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        Tracefs::detached().map_err(|error| refused.unwrap_or(error))
    }

    /// None where something else was mounted over it.
    fn at(path: &Path) -> Result<Option<Tracefs>, TraceMissing> {
        let name = path.display().to_string();
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match open(path, flags, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(TraceMissing::new("open", name, error)),
        };
        match fstatfs(&root) {
            Ok(found) if found.f_type == TRACEFS_MAGIC => Ok(Some(Tracefs { root, name })),
            Ok(_) => Ok(None),
            Err(error) => Err(TraceMissing::new("statfs", name, error)),
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
    use std::fs::{create_dir_all, remove_dir};
    use std::slice;

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

    #[test]
    #[ignore = "needs root, tracefs"]
    fn tracefs_under_another_mount_is_passed_over() {
        unmount_here();
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        let tracing = first.join("tracing");
        for path in [&tracing, &second] {
            create_dir_all(path).unwrap();
        }
        let mount = |path: &Path, kind| mount("nodev", path, kind, MountFlags::empty(), None);
        let found = || {
            let found = Tracefs::open().unwrap();
            assert!(has_events(&found));
            found.name
        };
        mount(&tracing, "tracefs").unwrap();
        assert_eq!(found(), tracing.display().to_string());
        // Over the folder above it, which then lacks it, has an empty one, or a file in its place.
        mount(&first, "tmpfs").unwrap();
        assert_eq!(mounted().unwrap(), slice::from_ref(&tracing));
        assert_eq!(found(), "tracefs");
        create_dir_all(&tracing).unwrap();
        assert_eq!(found(), "tracefs");
        remove_dir(&tracing).unwrap();
        File::create(&tracing).unwrap();
        assert_eq!(found(), "tracefs");

        mount(&second, "tracefs").unwrap();
        assert_eq!(mounted().unwrap(), [tracing, second.clone()]);
        assert_eq!(found(), second.display().to_string());
        for path in [&second, &first] {
            unmount(path, UnmountFlags::DETACH).unwrap();
        }
        unmount(first.join("tracing"), UnmountFlags::DETACH).unwrap();
    }
}
