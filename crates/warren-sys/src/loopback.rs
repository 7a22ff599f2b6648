//! Loop devices: a file as a disk.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

/// `LOOP_CTL_GET_FREE`, on `/dev/loop-control`.
const GET_FREE: u64 = 0x4c82;
/// `LOOP_CONFIGURE`, Linux 5.8.
const CONFIGURE: u64 = 0x4c0a;
/// `LOOP_SET_CAPACITY`
const SET_CAPACITY: u64 = 0x4c07;
/// `LOOP_GET_STATUS64`
const GET_STATUS: u64 = 0x4c05;
/// `LO_FLAGS_AUTOCLEAR`: the device lets go of its file when nobody has it open or mounted.
const AUTOCLEAR: u32 = 4;
/// `LO_FLAGS_DIRECT_IO`: past the host's page cache, where the file's filesystem can.
const DIRECT_IO: u32 = 16;
/// How often another may take the device that the kernel named as free.
const TRIES: u32 = 32;

/// `struct loop_info64`
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Info {
    const EMPTY: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// `struct loop_config`
#[repr(C)]
struct Configuration {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A loop device that is open, and with it attached at least for so long.
#[derive(Debug)]
pub struct Device {
    /// Its node, such as `/dev/loop0`.
    pub path: PathBuf,
    file: File,
}

impl Device {
    /// Attaches `file` to a free device, read and write. The device is freed by the kernel when
    /// nobody has it open or mounted any more.
    ///
    /// # Errors
    ///
    /// The kernel's error: `NotFound` where it has no loop devices, `PermissionDenied` for all but
    /// root.
    ///
    /// # Source
    ///
    /// `loop(4)`.
    pub fn attach(file: &File) -> io::Result<Self> {
        let control = File::options().read(true).write(true).open("/dev/loop-control")?;
        let mut tries = 0;
        loop {
            // SAFETY: this request takes no argument and gives a number; the descriptor is open.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::options().read(true).write(true).open(&path)?;
            match configure(&device, file) {
                Ok(()) => return Ok(Self { path, file: device }),
                // Somebody else was faster.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < TRIES => {
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The device that `file` is attached to already, if any: a second one on the same file would
    /// be a second disk with the same filesystem.
    ///
    /// # Errors
    ///
    /// When the file cannot be looked at. Devices that cannot be are passed over.
    pub fn of(file: &File) -> io::Result<Option<Self>> {
        let wanted = file.metadata()?;
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_loop = name.to_str().is_some_and(|it| it.starts_with("loop"));
            // Only what is attached says what it is attached to.
            if !is_loop || !entry.path().join("loop/backing_file").exists() {
                continue;
            }
            let path = Path::new("/dev").join(name);
            let Ok(device) = File::options().read(true).write(true).open(&path) else { continue };
            let Ok(info) = status(&device) else { continue };
            if info.inode == wanted.ino() && info.device == wanted.dev() {
                return Ok(Some(Self { path, file: device }));
            }
        }
        Ok(None)
    }

    /// Makes the device as large as its file is now.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    ///
    /// # Source
    ///
    /// `loop(4)`, `LOOP_SET_CAPACITY`.
    pub fn take_new_size(&self) -> io::Result<()> {
        // SAFETY: this request takes no argument; the descriptor is open.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), SET_CAPACITY) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Whether `path` is a block device.
///
/// # Errors
///
/// When there is nothing at `path`.
pub fn is_block_device(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.file_type().is_block_device())
}

/// How many bytes a block device holds.
///
/// # Errors
///
/// The kernel's error: it is no block device.
///
/// # Source
///
/// `BLKGETSIZE64` in `linux/fs.h`.
pub fn device_bytes(device: BorrowedFd<'_>) -> io::Result<u64> {
    /// `_IOR(0x12, 114, size_t)`
    const SIZE: u64 = 0x8008_1272;
    let mut bytes = 0_u64;
    // SAFETY: the request writes one u64 (its size is in its number) to the pointer, which leads
    // to one; the descriptor is open for the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), SIZE, &raw mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes) }
}

fn configure(device: &File, file: &File) -> io::Result<()> {
    let configuration = Configuration {
        fd: u32::try_from(file.as_raw_fd()).unwrap_or(u32::MAX),
        block_size: 0,
        info: Info { flags: AUTOCLEAR | DIRECT_IO, ..Info::EMPTY },
        reserved: [0; 8],
    };
    // SAFETY: the request reads one whole struct loop_config from the pointer, which leads to one;
    // both descriptors are open for the call, and the kernel takes its own hold on the file.
    let result =
        unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, std::ptr::from_ref(&configuration)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn status(device: &File) -> io::Result<Info> {
    let mut info = Info::EMPTY;
    // SAFETY: the request writes one whole struct loop_info64 to the pointer, which leads to one;
    // every bit pattern is a valid one. The descriptor is open for the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), GET_STATUS, &raw mut info) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(info) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Configuration>(), 304);
    }

    #[test]
    fn a_file_is_attached_found_again_grown_and_let_go() {
        let file = tempfile_of(4 << 20);
        let device = match Device::attach(&file) {
            Ok(device) => device,
            Err(error) => {
                println!("SKIPPED: loop devices cannot be used here: {error}");
                return;
            }
        };
        assert_eq!(device_bytes(std::os::fd::AsFd::as_fd(&device.file)).unwrap(), 4 << 20);
        let found = Device::of(&file).unwrap().expect("it is attached");
        assert_eq!(found.path, device.path);
        file.set_len(8 << 20).unwrap();
        device.take_new_size().unwrap();
        assert_eq!(device_bytes(std::os::fd::AsFd::as_fd(&device.file)).unwrap(), 8 << 20);
        drop((device, found));
        // The kernel lets go a moment later.
        let start = std::time::Instant::now();
        while Device::of(&file).unwrap().is_some() {
            assert!(start.elapsed().as_secs() < 10, "the device stays attached");
            std::thread::yield_now();
        }
    }

    fn tempfile_of(bytes: u64) -> File {
        let path = std::env::temp_dir().join(format!("warren-loop-{}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        file.set_len(bytes).unwrap();
        file
    }
}
