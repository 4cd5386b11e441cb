//! The directories that spill files may go to, and opening a file there that leaves nothing behind.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The local dirs of this task, in order of preference.
#[derive(Debug, Clone, Default)]
pub struct LocalDirs {
    dirs: Vec<PathBuf>,
}

impl LocalDirs {
    /// None of them needs to exist.
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self { dirs }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.dirs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// The directory of that number.
    pub fn path(&self, i: usize) -> Option<&Path> {
        self.dirs.get(i).map(PathBuf::as_path)
    }
}

/// Opens a new file for reading and writing that has no name, and that only this user may open.
///
/// Where `dir` is missing the file is opened in the nearest folder above that exists: making the
/// folders would need the same rights there, end up on the same file system, and leave an empty
/// folder whenever two workers make and remove a shared one at the same time.
pub fn open_unlinked(dir: &Path) -> io::Result<File> {
    for folder in dir.ancestors() {
        // What is above a one-part relative path is the empty one.
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        match tempfile::tempfile_in(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_missing(folder) => {}
            Err(error) => return Err(error),
            Ok(file) => {
                // The umask decided so far. It is an error only where modes mean nothing.
                let _ = file.set_permissions(Permissions::from_mode(0o600));
                return Ok(file);
            }
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// A symbolic link to nowhere (a disk that is not mounted) is not missing: going on above it would
/// fill the wrong disk.
fn is_missing(folder: &Path) -> bool {
    folder
        .symlink_metadata()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Bytes this user may still write to the file system that `dir` is, or would be, on.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    let room = dir
        .ancestors()
        .find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    Some(room.f_bavail.saturating_mul(room.f_frsize))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn entries(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn file_has_no_name_and_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = open_unlinked(dir.path()).unwrap();
        let about = file.metadata().unwrap();
        assert_eq!(about.mode() & 0o7777, 0o600);
        assert_eq!(about.nlink(), 0);
        let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        assert!(
            link.starts_with(dir.path().canonicalize().unwrap()),
            "{link:?}"
        );
        assert!(link.to_string_lossy().ends_with(" (deleted)"), "{link:?}");
        assert_eq!(entries(dir.path()), 0);
    }

    #[test]
    fn missing_folders_are_not_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = open_unlinked(&dir.path().join("python/123/4")).unwrap();
        let device = dir.path().metadata().unwrap().dev();
        assert_eq!(file.metadata().unwrap().dev(), device);
        assert_eq!(entries(dir.path()), 0);
    }

    #[test]
    fn folders_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("python")).unwrap();
        open_unlinked(&dir.path().join("python/123")).unwrap();
        assert!(dir.path().join("python").is_dir());
    }

    #[test]
    fn two_files_are_not_one() {
        let dir = tempfile::tempdir().unwrap();
        let inode = |file: File| file.metadata().unwrap().ino();
        let one = open_unlinked(dir.path()).unwrap();
        let other = open_unlinked(dir.path()).unwrap();
        assert_ne!(inode(one), inode(other));
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below"), file.join("below/further")] {
            let kind = open_unlinked(&path).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::NotADirectory, "{path:?}");
        }
    }

    #[test]
    fn a_link_to_nowhere_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("disk1");
        symlink("/nowhere/at/all", &link).unwrap();
        for path in [link.clone(), link.join("python/1")] {
            let kind = open_unlinked(&path).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::NotFound, "{path:?}");
        }
    }

    #[test]
    fn a_relative_path_is_below_the_current_folder() {
        let file = open_unlinked(Path::new("no-such-folder/5")).unwrap();
        let here = Path::new(".").metadata().unwrap();
        assert_eq!(file.metadata().unwrap().dev(), here.dev());
        assert!(!Path::new("no-such-folder").exists());
    }

    #[test]
    fn room_is_told_for_missing_folders_too() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(&dir.path().join("python/123")).unwrap() > 0);
        assert_eq!(free_bytes(Path::new("")), None);
    }

    #[test]
    fn dirs_are_numbered() {
        let dirs = LocalDirs::new(vec!["/a".into(), "/b".into()]);
        assert_eq!((dirs.len(), dirs.is_empty()), (2, false));
        assert_eq!(dirs.path(1), Some(Path::new("/b")));
        assert_eq!(dirs.path(2), None);
    }
}
