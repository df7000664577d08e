//! Small file systems for a server: memory that is mounted where its files lie, can be filled to the brim, and freed.
//!
//! Mounting is for root, and many containers forbid it even there: whoever asks is told why it can't be. What is
//! mounted goes with the server, however the process ends (`watchdog`).

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::TestCluster;

/// The file that takes what is left.
const FILLER: &str = "filler";
/// It grows by so many bytes at a time, and at the end by one.
const PIECES: [usize; 3] = [1024 * 1024, 4096, 1];

/// A mounted file system of a fixed size.
#[derive(Clone, Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

/// The file systems of one server.
#[derive(Clone, Debug)]
pub struct SmallDisks {
    /// Holds tables and everything else.
    pub data: SmallDisk,
    /// Holds the write-ahead log.
    pub wal: SmallDisk,
}

impl SmallDisk {
    /// Mounts `megabytes` of memory over a folder, for the account that `like` belongs to.
    fn mount(folder: &Path, megabytes: u32, like: &Path) -> Result<Self> {
        let owner = fs::metadata(like).with_context(|| format!("look at {}", like.display()))?;
        let options = format!("size={megabytes}m,mode=0700,uid={},gid={}", owner.uid(), owner.gid());
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Takes all bytes that are left, and gives how many. Again and again, for whoever frees some meanwhile.
    pub fn fill(&self) -> Result<u64> {
        let path = self.folder.join(FILLER);
        let mut file = OpenOptions::new().create(true).append(true).open(path).context("make a filler")?;
        let mut taken = 0;
        for piece in PIECES {
            let zeros = vec![0; piece];
            loop {
                match file.write(&zeros) {
                    Ok(0) => break,
                    Ok(written) => taken += written as u64,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("fill a disk"),
                }
            }
        }
        Ok(taken)
    }

    /// Gives back what [`Self::fill`] took.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.folder.join(FILLER)).context("remove the filler")
    }
}

impl TestCluster {
    /// Moves its files onto small file systems of so many megabytes each; it is killed for that and started again. An
    /// error where nothing can be mounted here.
    pub async fn move_onto_small_disks(&self, data_megabytes: u32, wal_megabytes: u32) -> Result<SmallDisks> {
        self.kill().await;
        let data = self.data_folder();
        let original = data.with_extension("original");
        fs::rename(&data, &original).context("move the data aside")?;
        let made = mount_both(&data, &original, data_megabytes, wal_megabytes);
        let disks = match made {
            Ok(disks) => disks,
            Err(error) => {
                // As it was: the caller goes on without. What was not mounted can't be unmounted.
                let _ = run(Command::new("umount").arg("--recursive").arg(&data));
                let _ = fs::remove_dir(&data);
                fs::rename(&original, &data).context("move the data back")?;
                self.start_again().await;
                return Err(error);
            }
        };
        run(Command::new("cp").arg("-a").arg(original.join(".")).arg(&data))?;
        fs::remove_dir_all(&original).context("remove what was copied")?;
        self.start_again().await;
        Ok(disks)
    }
}

fn mount_both(data: &Path, like: &Path, data_megabytes: u32, wal_megabytes: u32) -> Result<SmallDisks> {
    fs::create_dir(data).context("make a place to mount at")?;
    let data_disk = SmallDisk::mount(data, data_megabytes, like)?;
    let wal = data.join("pg_wal");
    fs::create_dir(&wal).context("make a place to mount at")?;
    fs::set_permissions(&wal, fs::Permissions::from_mode(0o700))?;
    Ok(SmallDisks { data: data_disk, wal: SmallDisk::mount(&wal, wal_megabytes, like)? })
}

/// Runs a program to its end; an error says what it said.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} ended with {}: {}", output.status, said.trim_end());
    Ok(())
}
