//! The few xfs calls that a storage pool needs.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// `_IOR('X', 100, struct xfs_fsop_geom_v1)`
const GEOMETRY: u64 = 0x8070_5864;
/// `_IOW('X', 110, struct xfs_growfs_data)`
const GROW: u64 = 0x4010_586e;

/// `struct xfs_fsop_geom_v1`, of which the sizes and the identity matter here.
#[repr(C)]
#[derive(Default)]
struct Geometry {
    block_bytes: u32,
    other: [u32; 6],
    inode_percent: u32,
    data_blocks: u64,
    real_time: [u64; 3],
    uuid: [u8; 16],
    rest: [u32; 8],
}

/// `struct xfs_growfs_data`
#[repr(C)]
struct Growth {
    data_blocks: u64,
    inode_percent: u32,
}

/// The identity of the filesystem: a UUID in lower case.
///
/// # Errors
///
/// The kernel's error: it is not xfs.
///
/// # Source
///
/// `ioctl_xfs_fsgeometry(2)`.
pub fn filesystem_id(directory: BorrowedFd<'_>) -> io::Result<String> {
    Ok(crate::uuid_text(&geometry(directory)?.uuid))
}

/// Makes the filesystem as large as its device, which has `device_bytes`. One that is so already
/// is no error.
///
/// # Errors
///
/// The kernel's error.
///
/// # Source
///
/// `xfs_growfs(8)`, `XFS_IOC_FSGROWFSDATA`.
pub fn grow(directory: BorrowedFd<'_>, device_bytes: u64) -> io::Result<()> {
    let now = geometry(directory)?;
    let data_blocks = device_bytes / u64::from(now.block_bytes.max(1));
    if data_blocks <= now.data_blocks {
        return Ok(());
    }
    let growth = Growth { data_blocks, inode_percent: now.inode_percent };
    // SAFETY: the request reads one whole struct xfs_growfs_data (16 bytes, as in its number) from
    // the pointer, which leads to one; the descriptor is borrowed for the call.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), GROW, std::ptr::from_ref(&growth)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn geometry(directory: BorrowedFd<'_>) -> io::Result<Geometry> {
    let mut geometry = Geometry::default();
    // SAFETY: the request writes 112 bytes (its size is in its number) to the pointer, which leads
    // to a structure of so many; every bit pattern is a valid one. The descriptor is borrowed.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), GEOMETRY, &raw mut geometry) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(geometry) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<Geometry>(), 112);
        assert_eq!(size_of::<Growth>(), 16);
    }
}
